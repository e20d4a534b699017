"""The viewer: the logic of the Slicer extension behind a page in the browser, for one person on this machine.

The only package of anomap that knows VTK, MRML and trame. They come with ``pip install 'anomap[viewer]'``.
"""
