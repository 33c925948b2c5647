"""What tests of domains share: models, whole words, graphs by hand, a headless browser."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ig_core import Attribution, Units

KINDS = ("unk", "pad", "cls", "sep", "mask")
"""Special tokens of a tokenizer."""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip

PATIENCE = 60.0
"""Seconds after which an answer is not waited for any more."""


class Browser:
    """Chromium at the ends of its debugging pipe: JSON messages, each ended by a null byte."""

    def __init__(self, program: str, profile: Path) -> None:
        its_read, self._write = os.pipe()
        self._read, its_write = os.pipe()

        def wire() -> None:
            """The browser reads from descriptor 3 and writes to descriptor 4."""
            ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (its_read, its_write)]
            for place, end in enumerate(ends, start=3):
                os.dup2(end, place)

        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=wire,  # noqa: PLW1509 - nothing else gives it descriptors 3 and 4
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_read)
        os.close(its_write)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        """The result of one command; what the browser tells meanwhile is kept in ``events``."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return answer["result"]

    def wait(self, event: str) -> None:
        """Wait until the browser has told an event."""
        while all(told.get("method") != event for told in self.events):
            self.events.append(self._next())

    def open(self, path: Path, width: int = 1000, height: int = 800, *, dark: bool = False) -> Tab:
        """A page in a new tab of its own size and colour scheme."""
        return Tab(self, path, width, height, dark)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._write)
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            part = os.read(self._read, 2**20) if ready else b""
            if not part:
                raise RuntimeError("the browser does not answer")
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


class Tab:
    """One page, and what it asked the network for and complained of."""

    def __init__(self, browser: Browser, path: Path, width: int, height: int, dark: bool) -> None:
        self._browser = browser
        browser.events.clear()
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=path.as_uri())
        browser.wait("Page.loadEventFired")

    def call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, self._session, **params)

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key on the keyboard."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def hover(self, x: float, y: float) -> None:
        """The mouse over a place."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def media(self, name: str) -> None:
        """Show the page as it is on a ``screen`` or in ``print``."""
        self.call("Emulation.setEmulatedMedia", media=name)

    def screenshot(self, path: Path) -> Path:
        """A picture of what is in the window."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path

    @property
    def requested(self) -> list[str]:
        """What the page loaded, itself included."""
        told = self._told("Network.requestWillBeSent")
        return [event["request"]["url"] for event in told]

    @property
    def complaints(self) -> list[str]:
        """What stands in the console: errors, refusals of the content policy, exceptions."""
        entries = [event["entry"]["text"] for event in self._told("Log.entryAdded")]
        spoken = [str(event["args"]) for event in self._told("Runtime.consoleAPICalled")]
        thrown = [str(event) for event in self._told("Runtime.exceptionThrown")]
        return entries + spoken + thrown

    def _told(self, method: str) -> list[Mapping[str, Any]]:
        return [
            event["params"]
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]


class Classifier(nn.Module):
    """A GRU's logits of three classes after its last step; notes the rows of every pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(2, 6, batch_first=True)
        self.head = nn.Linear(6, 3)
        self.rows: list[int] = []
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self.head(self.rnn(x)[0][:, -1])


@pytest.fixture
def classifier() -> Classifier:
    """A model of sequences with two features, in float64."""
    return Classifier()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One headless browser for all tests; they are skipped where there is none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(NAMES)} is on the path")
    started = Browser(program, tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def whole_words() -> Callable[..., Any]:
    """Makes a tokenizer whose tokens are the words of ``ids``; options go to transformers.

    A text is [CLS] ... [SEP]; a pair goes on with ... [SEP] of the second segment.
    """

    def make(ids: Mapping[str, int], **options: Any) -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer(models.WordLevel(dict(ids), unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
        backend.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
        )
        names = {f"{kind}_token": f"[{kind.upper()}]" for kind in KINDS}
        return PreTrainedTokenizerFast(tokenizer_object=backend, **names, **options)

    return make


@pytest.fixture(scope="session")
def graph_result() -> Callable[..., Attribution]:
    """Makes the result of a graph by hand.

    ``nodes`` are labels, by type if they are of several; ``edges`` are pairs in the numbering of
    all nodes, by relation if they are of several. ``x`` and ``scores`` are values of the node
    features and the edges, by type and relation likewise; other fields are those of the display.
    """

    def make(
        nodes: Any, edges: Any, x: Any = None, scores: Any = None, index: Any = (), **display: Any
    ) -> Attribution:
        types = nodes if isinstance(nodes, dict) else {"": list(nodes)}
        relations = edges if isinstance(edges, dict) else {("", "", ""): list(edges)}
        features = x if isinstance(x, dict) or x is None else {"": x}
        masks = scores if isinstance(scores, dict) or scores is None else {("", "", ""): scores}
        tensors, units, labels = {}, {}, []
        for kind, names in types.items():
            if features is not None and kind in features:
                name = f"{kind}.x" if kind else "x"
                tensors[name] = torch.as_tensor(features[kind], dtype=torch.float64)
                units[name] = torch.arange(len(names)) + len(labels)
                labels += list(names)
        for relation, pairs in relations.items():
            if masks is not None and relation in masks:
                name = "__".join(relation) + ".edges" if any(relation) else "edges"
                tensors[name] = torch.as_tensor(masks[relation], dtype=torch.float64)
                own = torch.arange(len(pairs)) + len(labels)
                units[name] = own.expand(tensors[name].shape).contiguous()
                labels += [f"{u}-{v}" for u, v in pairs]
        total = float(sum(tensor.sum() for tensor in tensors.values()))
        told = {
            "explained": "output 1",
            "level": "node" if index else "graph",
            **({} if scores is None else {"game": "message"}),
            "of_edges": [name for name in tensors if name.endswith("edges")],
            "explain": ["x"] * (x is not None) + ["edges"] * (scores is not None),
            "nodes": [label for names in types.values() for label in names],
            "node_types": [[kind, len(names)] for kind, names in types.items()],
            "edges": [list(pair) for pairs in relations.values() for pair in pairs],
            "relations": [[list(relation), len(pairs)] for relation, pairs in relations.items()],
            "index": list(index),
            **display,
        }
        return Attribution(
            tensors=tensors,
            units=Units(labels, units, "part"),
            at_input=total + 0.5,
            at_baseline=0.5,
            residual=0.0,
            provenance={"domain": "graphs", "path": "straight", "baseline": "zeros"},
            display=told,
        )

    return make
