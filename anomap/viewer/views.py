"""Three slice views of one volume, drawn here and sent to the page as pictures."""

from __future__ import annotations

from typing import Any

from trame.widgets import html
from trame.widgets import vuetify3 as v3
from trame_slicer.app.logic.slice_view_logic import connect_slice_view_slider_to_state
from trame_slicer.app.ui.slider import Slider
from trame_slicer.core import LayoutManager, SlicerApp
from trame_slicer.rca_view import register_rca_factories
from trame_slicer.views import Layout, LayoutDirection, ViewLayoutDefinition
from vtkmodules.vtkCommonCore import vtkCommand, vtkObject

_NAMES = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}  # Slicer's names of its slice views
_VOLUME, _PICTURE = "volume", "picture"  # layouts: a stack of slices, a single image


class Views:
    """The scene with its views.

    Args:
        server: Of the page.
        debug: Let VTK say on stderr what it stumbles over; that may name files.
    """

    def __init__(self, server: Any, *, debug: bool = False) -> None:
        vtkObject.SetGlobalWarningDisplay(debug)
        self._state = server.state
        self._state.single = False
        self._app = SlicerApp()
        interaction = self._app.app_logic.GetInteractionNode()
        interaction.SetCurrentInteractionMode(interaction.AdjustWindowLevel)  # what dragging does
        register_rca_factories(self._app.view_manager, server, slice_view_ui_f=_tools, interactive_quality=80)
        self._layouts = LayoutManager(self._app.scene, self._app.view_manager, server)
        axial, sagittal, coronal = (
            ViewLayoutDefinition.axial_view(),
            ViewLayoutDefinition.sagittal_view(),
            ViewLayoutDefinition.coronal_view(),
        )
        beside = Layout(LayoutDirection.Vertical, [sagittal, coronal])
        layouts = {
            _VOLUME: Layout(LayoutDirection.Horizontal, [axial, beside], flex_sizes=["1.6", "1"]),
            _PICTURE: Layout(LayoutDirection.Horizontal, [axial]),
        }
        self._layouts.register_layout_dict(layouts)
        self._layouts.set_layout(_VOLUME)

    @property
    def scene(self) -> Any:
        """The MRML scene."""
        return self._app.scene

    def place(self, parent: Any) -> None:
        """Put the views into the page.

        Args:
            parent: The layout that is being built.
        """
        self._layouts.initialize_layout_grid(parent)

    def show(self, node: Any) -> None:
        """Show a volume in all views, the middle slice first; a single image has the place to itself."""
        single = node.GetImageData().GetDimensions()[2] == 1
        self._state.single = single
        self._layouts.set_layout(_PICTURE if single else _VOLUME)
        self._app.display_manager.show_volume_in_slice_background(node)
        self._app.display_manager.show_volume_in_slice_foreground(None)
        self._app.display_manager.reset_views()

    def refresh(self) -> None:
        """Draw again what has changed."""
        for view in self._app.view_manager.get_slice_views():
            view.schedule_render()


def _tools(server: Any, view_id: str, view: Any) -> None:
    """What lies over a slice view: its name and place, a button, and the slider through the slices."""
    name = _NAMES[view.get_singleton_tag()]
    place = connect_slice_view_slider_to_state(server, view)
    # The browser gives a view its size after the layout has changed: what was fitted before is cut off.
    view.interactor().AddObserver(vtkCommand.WindowResizeEvent, lambda *_: _fit(view))
    with html.Div(classes="view-name"):
        html.Span("Image", v_if=("single",))
        html.Span(f"{name} {{{{ {place.name.value}.toFixed(1) }}}} mm", v_else=True)
        with v3.VBtn(
            icon=True, size="x-small", variant="text", click=view.reset_view, title="Fit to the window", classes="ml-1"
        ):
            v3.VIcon("mdi-fit-to-page-outline")
    with html.Div(v_if=("!single",), classes="view-slider"):
        Slider(typed_state=place, density="compact", thumb_size=12, track_size=2)


def _fit(view: Any) -> None:
    """Fit a view to its window and stay at the slice."""
    place = view.get_slice_value()
    view.fit_view_to_content()
    view.set_slice_value(place)
