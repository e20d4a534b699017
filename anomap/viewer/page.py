"""The page: slice views on the left, one column of controls on the right. Vuetify's dark theme, nothing fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import html
from trame.widgets import vuetify3 as v3

from anomap import NOT_A_DIAGNOSIS
from anomap.viewer.app import Application
from anomap.viewer.views import Views

_STATIC = Path(__file__).parent / "static"
_MODULE = {
    "serve": {"anomap_viewer": str(_STATIC)},
    "scripts": ["anomap_viewer/upload.js"],
    "styles": ["anomap_viewer/viewer.css"],
}
_COLOUR = (
    "({PASS: 'success', REVIEW: 'warning', REJECT: 'error', UNCALIBRATED: 'blue-grey', NOT_APPLICABLE: 'blue-grey'})"
    "[verdict]"
)
_FIELD = {"density": "compact", "variant": "outlined", "hide_details": True}
_BUSY = "running || opening"
PRESETS = [{"title": "fast", "value": "fast"}, {"title": "paper (slow)", "value": "paper"}]
DEVICES = [{"title": "auto", "value": "auto"}, {"title": "CPU", "value": "cpu"}, {"title": "GPU", "value": "cuda"}]


def build_page(server: Any, views: Views, application: Application) -> None:
    """Make the page.

    Args:
        server: trame's.
        views: Are placed in it.
        application: What its buttons do.
    """
    server.enable_module(_MODULE)
    server.state.trame__title = "anomap viewer"
    with VAppLayout(server) as layout:
        layout.root.theme = "dark"
        with v3.VAppBar(density="compact", flat=True, border=True):
            html.H1("anomap viewer", classes="title")
            v3.VChip(NOT_A_DIAGNOSIS, id="notice", color="warning", variant="tonal", label=True, size="small")
        with v3.VNavigationDrawer(location="right", permanent=True, width=392), html.Div(classes="panel"):
            _images(application)
            _analysis(application)
            _result(application)
        with v3.VMain(), html.Div(classes="views"):
            views.place(layout)
            with html.Div(v_if=("!loaded",), classes="empty"):
                v3.VIcon("mdi-image-search-outline", size=56)
                html.Div("Open a folder, files or a zip of DICOM images: CT, CR or DX.")


def _images(application: Application) -> None:
    with html.Section(id="images"):
        with html.Div(classes="d-flex ga-2 align-center"):
            v3.VTextField(
                v_model=("path",), label="Folder, zip or file", disabled=(_BUSY,),
                id="path", keydown_enter=application.open_typed,
                __events=[("keydown_enter", "keydown.enter")], **_FIELD,
            )  # fmt: skip
            v3.VBtn("Open", id="open", click=application.open_typed, disabled=(f"{_BUSY} || !path",), height=40)
            with html.Label(title="Send DICOM files or a zip", classes=(f"{_BUSY} ? 'send disabled' : 'send'",)):
                v3.VIcon("mdi-upload")
                html.Input(
                    type="file", multiple=True, id="files", disabled=(_BUSY,), hidden=True,
                    change="window.anomapUpload($event.target)",
                )  # fmt: skip
        v3.VProgressLinear(v_if=("opening",), indeterminate=True, height=3)
        v3.VAlert(
            v_if=("error",), text=("error",), type="error", variant="tonal", density="compact", id="error",
            classes="text-body-2",
        )  # fmt: skip
        v3.VSelect(
            v_if=("series.length",), v_model=("chosen",), items=("series",), label="Series", id="series",
            disabled=(_BUSY,), **_FIELD,
        )  # fmt: skip
        html.Div("{{ line }}", v_for="line in left_out", classes="quiet left-out")


def _analysis(application: Application) -> None:
    with html.Section(id="analysis", v_if=("loaded",)):
        with html.Div(classes="d-flex ga-2"):
            for name, items in (
                ("model", ("models",)),
                ("preset", ("presets", PRESETS)),
                ("device", ("devices", DEVICES)),
            ):
                label = name.capitalize()
                v3.VSelect(v_model=(name,), items=items, label=label, id=name, disabled=(_BUSY,), **_FIELD)
        with html.Div(classes="d-flex align-center justify-space-between"):
            v3.VCheckbox(
                v_model=("only_shown",), label="Only the slices shown", density="compact", hide_details=True,
                disabled=(_BUSY,), id="only-shown",
            )  # fmt: skip
            v3.VBtn(
                "Run", v_if=("!running",), id="run", click=application.run, color="primary", disabled=(_BUSY,),
                prepend_icon="mdi-play",
            )  # fmt: skip
            v3.VBtn(
                "Cancel", v_else=True, id="cancel", click=application.cancel, color="error", variant="tonal",
                disabled=("cancelling",), prepend_icon="mdi-stop",
            )  # fmt: skip
        v3.VProgressLinear(v_if=("running",), model_value=("progress",), color="primary", height=6, rounded=True)
        html.Div("{{ message }}", v_if=("message",), id="message", classes="quiet")


def _result(application: Application) -> None:
    with html.Section(id="result", v_if=("verdict",)):
        v3.VChip("{{ gate }}", id="gate", color=(_COLOUR,), variant="flat", label=True)
        html.Div("{{ cohort }}", id="cohort", classes="quiet")
        html.Div("{{ reason }}", v_for="reason in reasons", classes="reason")
        html.Div("{{ warning }}", v_for="warning in warnings", classes="quiet")
        with html.Div():
            _slider("Opacity", "opacity", "1", "0.05", "Math.round(100 * opacity) + ' %'")
            _slider("Threshold", "threshold", "maximum", "maximum / 100", "threshold.toPrecision(3) + ' ' + unit")
        with html.Div(classes="d-flex align-center justify-space-between"):
            v3.VCheckbox(
                v_model=("reconstruction",), label="Reconstruction", density="compact", hide_details=True,
                id="reconstruction",
            )  # fmt: skip
            v3.VBtn(
                "DICOM report", v_if=("reports.length",), href="/report.zip", id="download", size="small",
                variant="tonal", prepend_icon="mdi-download", title=("reports.join(', ')",),
                raw_attrs=["download"],  # else the browser leaves the page, and trame hangs up
            )  # fmt: skip
        _table(application)
    with html.Details(v_if=("log.length",), id="log"):
        html.Summary("Log")
        html.Div("{{ line }}", v_for="line in log")


def _table(application: Application) -> None:
    with html.Div(classes="table"), v3.VTable(density="compact", fixed_header=True, id="rows"):
        with html.Thead(), html.Tr():
            html.Th("Place")
            html.Th("Score", classes="text-right", title=("unit",))
            html.Th("p", classes="text-right")
            html.Th("Size", classes="text-right")
        with (
            html.Tbody(),
            html.Tr(
                v_for="row in rows", key="row.index", click=(application.jump, "[row.index]"),
                classes=("row.index === jumped ? 'jumped' : ''",),
            ),
        ):  # fmt: skip
            html.Td("{{ row.what }}")
            for name in ("score", "p", "size"):
                html.Td(f"{{{{ row.{name} }}}}", classes="text-right")


def _slider(label: str, name: str, maximum: str, step: str, text: str) -> None:
    with html.Div(id=name, classes="slider"):
        html.Span(label)
        v3.VSlider(
            v_model=(name,), min=0, max=(maximum,), step=(step,), density="compact", hide_details=True,
            color="primary", thumb_size=14,
        )  # fmt: skip
        html.Span(f"{{{{ {text} }}}}", classes="value")
