"""Components limited to domains, beside namesakes that serve all."""

from types import SimpleNamespace

import pytest

import ig_core as ig
from ig_core import NameClashError, PluginManager


def plugin(*components):
    """A plugin that registers these baselines."""

    @ig.hookimpl
    def ig_baselines():
        return components

    return SimpleNamespace(ig_baselines=ig_baselines)


def mean(*domains):
    """A baseline called ``mean``, like one of the core, limited to these domains."""

    class Mean(ig.Baseline):
        name = "mean"
        fits = domains

        def starts(self, example, domain, generator):
            return []

    return Mean


@pytest.fixture
def manager():
    return PluginManager(strict=True)


def test_a_component_made_for_a_domain_hides_its_namesake_made_for_all(manager):
    for_text = mean("text")
    manager.register(plugin(for_text), "a")
    assert manager.find("baseline", "mean", "text") is for_text
    assert [b for b in manager.all("baseline", "text") if b.name == "mean"] == [for_text]


def test_other_domains_and_questions_without_one_still_find_the_one_made_for_all(manager):
    manager.register(plugin(mean("text")), "a")
    assert manager.find("baseline", "mean", "graphs") is ig.Mean
    assert manager.find("baseline", "mean") is ig.Mean
    assert manager.names("baseline").count("mean") == 1


def test_the_order_of_registration_has_no_meaning(manager):
    class General(ig.Baseline):
        name = "centre"

        def starts(self, example, domain, generator):
            return []

    class Special(General):
        fits = ("text",)

    manager.register(plugin(Special), "a")
    manager.register(plugin(General), "b")
    assert manager.find("baseline", "centre", "text") is Special
    assert manager.find("baseline", "centre", "graphs") is General


def test_two_limited_components_of_one_name_live_apart(manager):
    for_text, for_graphs = mean("text"), mean("graphs")
    manager.register(plugin(for_text), "a")
    manager.register(plugin(for_graphs), "b")
    assert manager.find("baseline", "mean", "graphs") is for_graphs


@pytest.mark.parametrize(
    "taken, again, holders",
    [(("text",), ("text", "rl"), ("a", "b")), ((), ("rl",), ("core", "a"))],
)
def test_one_name_twice_for_one_reach_is_a_clash_that_names_both(manager, taken, again, holders):
    with pytest.raises(NameClashError) as caught:
        manager.register(plugin(mean(*taken)), "a")
        manager.register(plugin(mean(*again)), "b")
    for named in ("mean", *holders):
        assert repr(named) in str(caught.value)
