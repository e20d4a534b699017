"""A volume that somebody looks at: taken from a viewer, analysed in a process of its own, given back on its grid.

The way of a volume, between two programs that know nothing of each other but this folder (`anomap.volume.job`):

    viewer                            `python -m anomap.volume JOB`
    job.json, voxels.npy     ──►      place ──► analyse ──► give back
    result/ on its own grid  ◄──      events as JSON lines on stdout; the end of stdin ends it
"""
