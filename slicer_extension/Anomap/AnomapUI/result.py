"""The section "Result": gate, overlay, table, export."""

import slicer
from AnomapLib.logic import gateText
from slicer.i18n import tr as _

GATE_COLORS = {"PASS": "#2e7d32", "REVIEW": "#a65f00", "REJECT": "#c62828"}
NO_VERDICT_COLOR = "#5f6368"


class ResultSection:
    """Shows one outcome of the analysis, or is hidden.

    Args:
        ui: The widgets of the panel.
        logic: Changes the scene.
        say: Shows one line to the user.
    """

    def __init__(self, ui, logic, say) -> None:
        self.ui = ui
        self.logic = logic
        self.say = say
        self._outcome = None
        self._parameters = None
        self._applied = None  # opacity and threshold of the overlay
        ui.thresholdSlider.connect("valueChanged(double)", self.onThresholdChanged)
        ui.reconstructionCheckBox.connect("toggled(bool)", self.onReconstructionToggled)
        ui.resultsTable.connect("selectionChanged()", self.onRowSelected)
        ui.exportButton.connect("clicked(bool)", self.onExport)
        ui.removeButton.connect("clicked(bool)", self.onRemove)
        self.clear()

    def follow(self, parameters) -> None:
        """Use these parameters from now on; None when there are none."""
        self._parameters = parameters
        self.refresh()

    def refresh(self) -> None:
        """Give opacity and threshold of the parameters to the overlay, when they changed."""
        if not (self._outcome and self._parameters):
            return
        wanted = (self._parameters.opacity, self._parameters.threshold)
        if wanted != self._applied:
            self._applied = wanted
            self.ui.thresholdSlider.value = wanted[1]
            self.logic.setOpacity(self._outcome, wanted[0])
            self.logic.setThreshold(self._outcome, wanted[1])

    def clear(self) -> None:
        """Forget the outcome; its nodes stay in the scene."""
        self._outcome = None
        self.ui.resultSection.setVisible(False)
        self.ui.resultsTable.setMRMLTableNode(None)

    def show(self, outcome) -> None:
        """Show an outcome here and in the slice views."""
        ui = self.ui
        color = GATE_COLORS.get(outcome.verdict, NO_VERDICT_COLOR)
        ui.gateLabel.setStyleSheet(f"background: {color}; color: white; padding: 6px; border-radius: 3px;")
        ui.gateLabel.setText(gateText(outcome))
        ui.detailsLabel.setText(_details(outcome))
        ui.exportButton.setEnabled(bool(outcome.dicomFiles))
        ui.exportButton.setToolTip(
            _("Report, segmentation and map as DICOM objects.")
            if outcome.dicomFiles
            else _("Only for volumes that were loaded from Slicer's DICOM database.")
        )
        self._outcome = None  # the widgets below must not act on an outcome while they are set
        ui.reconstructionCheckBox.setChecked(False)
        self._setThresholdRange(outcome)
        outcome.tableNode.SetUseColumnTitleAsColumnHeader(True)  # else the titles are a row, and all rows are one off
        ui.resultsTable.setMRMLTableNode(outcome.tableNode)
        ui.resultsTable.resizeColumnsToContents()
        self._outcome = outcome
        self._applied = None
        ui.resultSection.setVisible(True)
        if self._parameters:
            self.logic.show(outcome, self._parameters.opacity)
            self._parameters.threshold = outcome.threshold
            self.refresh()
        else:
            self.logic.show(outcome)

    def _setThresholdRange(self, outcome) -> None:
        slider = self.ui.thresholdSlider
        top = max(outcome.maximum, outcome.threshold)
        slider.decimals = 1 if top > 10 else 3  # HU, or grey levels between 0 and 1
        slider.minimum = 0.0
        slider.maximum = top
        slider.singleStep = top / 100
        slider.value = outcome.threshold
        slider.suffix = " HU" if outcome.unit == "HU" else ""

    def onThresholdChanged(self, value: float) -> None:
        """The slider can't be connected to the parameters by itself: its range is that of the outcome."""
        if self._outcome and self._parameters:
            self._parameters.threshold = value

    def onReconstructionToggled(self, on: bool) -> None:
        """Flip the background between the volume and what the model made of it."""
        if self._outcome:
            self.logic.showReconstruction(self._outcome, on)

    def onRowSelected(self) -> None:
        """Jump to the region or slice of the row."""
        table = self.ui.resultsTable
        selected = table.selectionModel().selectedRows() if self._outcome else []
        if selected:
            row = table.sortFilterProxyModel().mapToSource(selected[0]).row()
            self.logic.jumpTo(self._outcome.rows[row])

    def onExport(self) -> None:
        """Put report, segmentation and map into the DICOM database."""
        try:
            number = self.logic.exportDicom(self._outcome, importDicom)
        except ValueError as error:
            self.say(str(error))
        else:
            self.say(_("{number} objects are in the DICOM database now.").format(number=number))

    def onRemove(self) -> None:
        """Remove the nodes of the result from the scene."""
        outcome = self._outcome
        self.clear()
        self.logic.remove(outcome)


def importDicom(folder) -> None:
    """Copy the DICOM files of a folder into Slicer's database.

    Raises:
        ValueError: One line, when it didn't take them.
    """
    from DICOMLib import DICOMUtils

    if not DICOMUtils.importDicom(str(folder), slicer.dicomDatabase, True):  # it writes why into Slicer's log
        raise ValueError(_("Slicer's DICOM database did not take the files; see the error log."))


def _details(outcome) -> str:
    model = _("Model {model}, values in {unit}.").format(model=outcome.model, unit=outcome.unit)
    return "\n".join([*outcome.reasons, *outcome.warnings, model])
