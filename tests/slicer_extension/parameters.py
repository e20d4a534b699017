"""A stand-in for `slicer.parameterNodeWrapper`: as strict as Slicer's in what this extension uses of it."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Any

_SIGNAL = {"QCheckBox": "toggled", "QLineEdit": "textChanged", "qMRMLNodeComboBox": "currentNodeChanged"}
_VALUE = {"QCheckBox": "checked", "QLineEdit": "text", "ctkSliderWidget": "value"}  # the property that holds it


@dataclass(frozen=True)
class WithinRange:
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Choice:
    choices: list[Any]


def parameterNodeWrapper(described: type) -> type:
    """Give a class with annotated members typed properties that are stored in a scripted-module node."""
    members = {}
    for name, annotation in typing.get_type_hints(described, include_extras=True).items():
        kind, *limits = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
        members[name] = _Member(name, kind, limits, getattr(described, name, None if _is_node(kind) else kind()))
        setattr(described, name, property(members[name].read, members[name].write))

    def prepare(self: Any, node: Any) -> None:
        self.parameterNode = node
        self._guis: dict[int, list[Any]] = {}
        self._from_node = False
        for member in members.values():
            if not node.HasParameter(member.name):
                member.write(self, member.default)
        node.AddObserver("ModifiedEvent", lambda *_: _show(self))

    described.__init__ = prepare
    for method in (connectGui, disconnectGui, AddObserver, RemoveObserver):
        setattr(described, method.__name__, method)
    described.allParameters = members
    return described


def connectGui(self: Any, ui: Any) -> int:
    tag = max(self._guis, default=0) + 1
    self._guis[tag] = []
    for widget in vars(ui).values():
        name = widget.property("SlicerParameterName")
        if name:
            assert name in self.allParameters, f"{widget.objectName()} is bound to {name}, which is no parameter"
            self._guis[tag].append(_Connection(self, self.allParameters[name], widget))
    _show(self)
    return tag


def disconnectGui(self: Any, tag: int) -> None:
    for connection in self._guis.pop(tag):
        connection.end()


def AddObserver(self: Any, event: Any, callback: Any, priority: float = 0.0) -> int:
    return self.parameterNode.AddObserver(event, callback, priority)


def RemoveObserver(self: Any, tag: int) -> None:
    self.parameterNode.RemoveObserver(tag)


def _show(self: Any) -> None:
    if self._from_node:
        return
    self._from_node = True
    try:
        for connections in self._guis.values():
            for connection in connections:
                connection.show()
    finally:
        self._from_node = False


def _is_node(kind: type) -> bool:
    return kind.__name__.startswith("vtkMRML")


class _Member:
    def __init__(self, name: str, kind: type, limits: list[Any], default: Any) -> None:
        self.name, self.kind, self.limits, self.default = name, kind, limits, default

    def read(self, owner: Any) -> Any:
        node = owner.parameterNode
        if _is_node(self.kind):
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return text == "True" if self.kind is bool else self.kind(text)

    def write(self, owner: Any, value: Any) -> None:
        node = owner.parameterNode
        if _is_node(self.kind):
            modified = node.StartModify()
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            node.EndModify(modified)
            return
        if not isinstance(value, (int, float) if self.kind is float else self.kind):
            raise TypeError(f"{self.name} is a {self.kind.__name__}, not {value!r}")
        for limit in self.limits:
            fits = value in limit.choices if isinstance(limit, Choice) else limit.minimum <= value <= limit.maximum
            if not fits:
                raise ValueError(f"{self.name} can't be {value!r}: {limit}")
        node.SetParameter(self.name, str(value))

    def limit(self, kind: type) -> Any:
        return next((limit for limit in self.limits if isinstance(limit, kind)), None)


class _Connection:
    """One widget that shows one parameter and changes it. Which pairs are possible is Slicer's rule."""

    def __init__(self, owner: Any, member: _Member, widget: Any) -> None:
        self.owner, self.member, self.widget = owner, member, widget
        self.kind = widget.slicer_name
        if self.kind == "QComboBox":
            choice = member.limit(Choice)
            assert choice is not None, f"a combo box needs a Choice: {member.name}"
            widget.clear()
            for value in choice.choices:
                widget.addItem(str(value))
            self.signal = widget.currentIndexChanged
        elif self.kind == "ctkSliderWidget":
            limit = member.limit(WithinRange)
            assert limit is not None, f"a slider needs a WithinRange: {member.name}"
            widget.minimum, widget.maximum = limit.minimum, limit.maximum
            self.signal = widget.valueChanged
        else:
            self.signal = getattr(widget, _SIGNAL[self.kind])
        self.show()
        self.signal.connect(self.changed)

    def end(self) -> None:
        self.signal.disconnect(self.changed)

    def changed(self, *_: Any) -> None:
        if not self.owner._from_node:
            setattr(self.owner, self.member.name, self.value())

    def value(self) -> Any:
        widget = self.widget
        if self.kind == "QComboBox":
            return self.member.limit(Choice).choices[widget.currentIndex]
        if self.kind == "qMRMLNodeComboBox":
            return widget.currentNode()
        return getattr(widget, _VALUE[self.kind])

    def show(self) -> None:
        value, widget = getattr(self.owner, self.member.name), self.widget
        if self.kind == "QComboBox":
            widget.currentIndex = self.member.limit(Choice).choices.index(value)
        elif self.kind == "qMRMLNodeComboBox":
            widget.setCurrentNode(value)
        else:
            setattr(widget, _VALUE[self.kind], value)
