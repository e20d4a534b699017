"""What only the real application can show; `run_in_slicer.py` runs it. It has not been run yet: see the README."""

import unittest

import slicer
from Anomap import AnomapLogic, phantom
from AnomapLib.logic import Settings


class AnomapInSlicer(unittest.TestCase):
    """The module in its application."""

    def setUp(self) -> None:
        """Start with an empty scene."""
        slicer.mrmlScene.Clear()

    def widget(self):
        """The panel of the module."""
        return slicer.modules.anomap.widgetRepresentation().self()

    def test_the_module_is_loaded(self) -> None:
        """Slicer found it, with its icon and title."""
        self.assertEqual(slicer.modules.anomap.title, "Anomap")
        self.assertFalse(slicer.modules.anomap.icon.isNull())

    def test_the_panel_follows_the_scene(self) -> None:
        """Real MRML widgets: the selector finds a volume, Apply becomes possible, the parameters are kept."""
        widget = self.widget()
        widget.enter()
        self.assertFalse(widget.ui.applyButton.enabled)
        volume = phantom()
        widget.ui.inputSelector.setCurrentNode(volume)
        self.assertTrue(widget.ui.applyButton.enabled)
        self.assertEqual(widget.logic.getParameterNode().inputVolume.GetID(), volume.GetID())
        widget.ui.presetSelector.setCurrentIndex(1)
        self.assertEqual(widget.logic.getParameterNode().preset, "paper")
        slicer.mrmlScene.Clear()
        self.assertFalse(widget.ui.applyButton.enabled)

    def test_a_phantom_is_analysed_and_shown(self) -> None:
        """The whole way, when anomap is installed."""
        logic = AnomapLogic()
        missing = logic.installer.missing()
        if missing:
            self.skipTest(f"not installed: {', '.join(missing)}")
        outcome = logic.run(phantom(), Settings())
        self.assertGreater(len(outcome.rows), 0)
        widget = self.widget()
        widget.enter()
        widget._resultSection.show(outcome)
        table = widget.ui.resultsTable
        self.assertEqual(table.model().rowCount(), len(outcome.rows))
        table.selectRow(0)
        slice_ = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
        self.assertAlmostEqual(slice_.GetElement(2, 3), outcome.rows[0].ras[2], places=1)
        logic.close()
