"""Plan Layers: from a sentence, a text model's answer or an edited plan to what Encode Layers takes; secrets and the cache. Plans as JSON."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import comfy.model_management
import execution
import pytest
import torch
from comfy_extras.nodes_preview_any import PreviewAny
from graph import ROWS, Graph

import nodes as comfy_nodes

SENTENCE = "two red balls in front of a blue cube on a beach"
KEY = "sk-test-4f9c2d7be81a"
PLAN = {
    "version": 1, "background": "a beach", "foregrounds": [
        {"name": "cube", "prompt": "a blue cube", "weight": 1.2}, {"name": "ball", "prompt": "a red ball", "box": [0.1, 0.1, 0.5, 0.5]}],
    "whole": "a red ball and a blue cube on a beach", "negative": "blur", "notes": ["by hand"]}


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch, tmp_path):
    for name in ("URL", "MODEL", "KEY"):
        monkeypatch.delenv(f"DREAMLAYER_LLM_{name}", raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def node(pack):
    return pack["DreamLayerPlan"]


@pytest.fixture
def text_preview(monkeypatch):
    """An output node that takes text, from ComfyUI's extras."""
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "PreviewAny", PreviewAny)


@pytest.fixture
def endpoint(monkeypatch):
    """A server that gives PLAN, and how often it was asked; configured."""
    asked, begun, free = [], threading.Event(), threading.Event()
    free.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            begun.set()
            free.wait(60)
            body = json.dumps({"choices": [{"message": {"content": json.dumps(PLAN)}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("DREAMLAYER_LLM_URL", f"http://127.0.0.1:{server.server_address[1]}/v1")
    monkeypatch.setenv("DREAMLAYER_LLM_MODEL", "tiny")
    monkeypatch.setenv("DREAMLAYER_LLM_KEY", KEY)
    yield SimpleNamespace(asked=asked, begun=begun, free=free, url=f"127.0.0.1:{server.server_address[1]}")
    free.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_sentence_becomes_a_plan_that_can_be_encoded(pack, node):
    plan, text, written = node.execute(sentence=SENTENCE).args
    assert plan.prompts.layers == ("a beach", "a blue cube", "a red ball", "a red ball") and plan.rows == ROWS + 1
    assert plan.prompts.whole == SENTENCE and plan.weights == (1.0, 1.0, 1.0)
    assert text.splitlines()[0] == "background: a beach"
    assert [layer["prompt"] for layer in json.loads(written)["foregrounds"]] == list(plan.prompts.foregrounds)
    graph = Graph(pack)
    (rows, about), = graph.encode(plan)[0]
    assert rows.shape[0] == about["dreamlayer"].embeddings.shape[0] == ROWS + 1 and torch.isfinite(rows).all()
    assert graph.latent(plan)["samples"].shape[0] == ROWS + 1


def test_the_limit_and_a_proposal(node, told):
    plan, text, _ = node.execute(sentence=SENTENCE, limit=1).args
    assert plan.rows == 3 and "note: " in text
    with told("names no thing"):
        node.execute(sentence="a beach at sunset")
    assert node.execute(sentence="a beach at sunset", propose=True).args[0].names == ("umbrella",)
    with told("'grammar'"):
        node.execute(sentence=SENTENCE, planner="grammar")


def test_a_plan_goes_out_and_comes_back_edited(node):
    written = node.execute(sentence=SENTENCE).args[2]
    plan, _, again = node.execute(sentence="something else", edited_plan=written).args
    assert again == written and plan == node.execute(sentence=SENTENCE).args[0]
    plan, text, again = node.execute(sentence="", planner="endpoint", limit=1, answer="no plan", edited_plan=json.dumps(PLAN)).args
    assert json.loads(again) == PLAN, "weights, boxes and notes too"
    assert plan.weights == (1.2, 1.0) and plan.names == ("cube", "ball") and plan.prompts.negative == "blur"
    assert "cube: a blue cube (weight 1.2)" in text and "note: by hand" in text


def test_edited_plans_are_checked_before_anything_runs(node, text_preview):
    assert node.validate_inputs() is True and node.validate_inputs(edited_plan=" \n") is True
    assert node.validate_inputs(edited_plan=json.dumps(PLAN)) is True
    assert "foregrounds.0.wieght" in node.validate_inputs(edited_plan=json.dumps(PLAN).replace("weight", "wieght"))
    assert "found no plan" in node.validate_inputs(edited_plan="a beach")
    inputs = {"sentence": SENTENCE, "planner": "offline", "limit": 8, "propose": False, "edited_plan": "{"}
    graph = {"1": {"class_type": "DreamLayerPlan", "inputs": inputs}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}}}
    valid, _, _, errors = asyncio.run(execution.validate_prompt("test", graph, None))
    assert not valid and "found no plan" in str(errors)
    inputs["edited_plan"] = ["1", 2]  # through a wire it is not known yet, and is checked when it comes
    graph["2"]["inputs"]["source"] = ["3", 2]
    graph["3"] = {"class_type": "DreamLayerPlan", "inputs": inputs}
    graph["1"]["inputs"] = inputs | {"edited_plan": ""}
    valid, error, _, errors = asyncio.run(execution.validate_prompt("test", graph, None))
    assert valid, (error, errors)
    inputs["edited_plan"] = ""
    assert asyncio.run(execution.validate_prompt("test", graph, None))[0]


FIELDS = {
    "background": 'grass {"background": "sand", "foregrounds": []}', "whole": "oil 油画 🎨", "negative": "", "foregrounds": {
        "foregrounds": "3", "name_1": "ball", "prompt_1": 'a ball that says "hi", // <b>', "weight_1": 1.25,
        "name_2": "", "prompt_2": "", "weight_2": 0.0, "name_3": "a/b", "prompt_3": "((a cube:1.2) \\(x\\)", "weight_3": 0.1}}


def test_layer_prompts_write_what_they_and_the_command_line_read(pack, node, core):
    prompts = pack["DreamLayerPrompts"]
    plan, text, written = prompts.execute(**FIELDS).args
    assert plan.names == ("ball", "layer 2", "a/b") and plan.weights == (1.25, 0.0, 0.1) and plan.prompts.whole == "oil 油画 🎨"
    assert plan.prompts.layers == (FIELDS["background"], 'a ball that says "hi", // <b>', "", "((a cube:1.2) \\(x\\)")
    assert prompts.execute(background="other", foregrounds={"foregrounds": "1"}, plan_json=written).args == (plan, text, written)
    checked = core("plans.plan").LayerPlan.model_validate_json(written)
    assert tuple(layer.prompt for layer in checked.foregrounds) == plan.prompts.foregrounds
    assert node.execute(sentence="", edited_plan=written).args[0] == plan, "Plan Layers reads the same"


def test_layer_prompts_take_a_plan_before_their_fields(pack, node):
    prompts = pack["DreamLayerPrompts"]
    plan, text, written = prompts.execute(**FIELDS, plan_json=json.dumps(PLAN)).args
    assert json.loads(written) == PLAN, "weights, boxes and notes too"
    assert plan == node.execute(sentence="", edited_plan=json.dumps(PLAN)).args[0]
    assert plan.weights == (1.2, 1.0) and plan.prompts.negative == "blur" and "note: by hand" in text
    assert prompts.execute(background="", plan_json=json.dumps(PLAN)).args[0] == plan, "without any fields"
    no_whole = {key: value for key, value in PLAN.items() if key != "whole"}
    assert prompts.execute(**FIELDS, plan_json=json.dumps(no_whole)).args[0].prompts.whole == "", "nor is it filled in"
    assert prompts.execute(**FIELDS, plan_json=" \n").args == prompts.execute(**FIELDS).args


@pytest.mark.parametrize(("text", "said"), [
    ("a beach", "found no plan in 'a beach'"),
    (json.dumps(PLAN)[:-20], "breaks off before its end"),
    (json.dumps(PLAN).replace("weight", "wieght"), "foregrounds.0.wieght"),
    (json.dumps(PLAN).replace("1.2", "12"), "foregrounds.0.weight: Input should be less than or equal to 4"),
    (json.dumps(PLAN | {"foregrounds": []}), "nothing that stands"),
    (json.dumps(PLAN | {"version": 2}), "version"),
])
def test_bad_plans_are_told(pack, told, text, said):
    prompts = pack["DreamLayerPrompts"]
    assert said in prompts.validate_inputs(background="", foregrounds={"foregrounds": "1"}, plan_json=text)
    with told(said):
        prompts.execute(**FIELDS, plan_json=text)


def test_fields_that_make_no_plan_are_told(pack, told):
    prompts = pack["DreamLayerPrompts"]
    for name, value, said in (("prompt_1", "x" * 4001, "at most 4000"), ("name_1", "x" * 201, "at most 200"),
                              ("weight_1", float("nan"), "Input should be"), ("weight_1", -1.0, "greater than or equal to 0")):
        with told(f"the plan in the fields does not fit the schema: foregrounds.0.{name[:-2]}.*{said}"):
            prompts.execute(**FIELDS | {"foregrounds": {"foregrounds": "1", name: value}})


def test_layer_prompts_in_a_graph(pack, text_preview):
    """Also as it was saved before it had the field."""
    fields = {"background": "grass", "foregrounds": "1", "foregrounds.name_1": "ball", "foregrounds.prompt_1": "a ball",
              "foregrounds.weight_1": 1.0, "whole": "", "negative": ""}

    def said(**given):
        graph = {"1": {"class_type": "DreamLayerPrompts", "inputs": fields | given},
                 "2": {"class_type": "DreamLayerPlan", "inputs": {"sentence": "x", "planner": "offline", "limit": 8, "propose": False}},
                 "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}}}
        valid, error, _, errors = asyncio.run(execution.validate_prompt("test", graph, None))
        return "" if valid else f"{error} {errors}"

    assert [said(), said(plan_json=""), said(plan_json=json.dumps(PLAN)), said(plan_json=["2", 2])] == [""] * 4
    assert "found no plan" in said(plan_json="{")
    assert "got no foreground prompts" in said(foregrounds="30") and said(foregrounds="30", plan_json=["2", 2]) != ""


def test_an_answer_of_a_text_model(node, told):
    said = f"Thinking...\n```json\n{json.dumps(PLAN | {'tool': 'x'})}\n``` Done!"
    plan, text, _ = node.execute(sentence="", planner="endpoint", answer=said).args
    assert plan.names == ("cube", "ball") and "left out: tool" in text
    assert node.execute(sentence="", answer=said, limit=1).args[0].rows == 3
    with told("found no plan in 'I cannot'"):
        node.execute(sentence=SENTENCE, answer="I cannot")
    empty = '{"background": "a beach", "foregrounds": []}'
    with told("nothing that stands"):
        node.execute(sentence=SENTENCE, answer=empty)
    assert node.execute(sentence=SENTENCE, answer=empty, propose=True).args[0].names == ("umbrella",)


def run_twice(sentence: str, planner: str):
    """The graph through ComfyUI's executor, twice; what the second run executed anew."""
    inputs = {"sentence": sentence, "planner": planner, "limit": 8, "propose": False, "edited_plan": ""}
    graph = {"1": {"class_type": "DreamLayerPlan", "inputs": inputs}, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}}}
    server = SimpleNamespace(client_id=None, last_node_id=None, last_prompt_id=None, send_sync=lambda *_: None, sockets_metadata={})
    executor = execution.PromptExecutor(server, cache_type=execution.CacheType.CLASSIC, cache_args={"ram": 1.0, "ram_inactive": 1.0, "lru": 0})
    ran = []
    for number in range(2):
        prompt = json.loads(json.dumps(graph))
        executor.execute(prompt, f"run {number}", {}, ["2"])
        assert executor.success, executor.status_messages
        ran.append((prompt, [message for kind, message in executor.status_messages if kind == "execution_cached"][0]["nodes"]))
    return ran


def test_an_endpoint_is_asked_once_and_leaves_no_trace(node, endpoint, text_preview):
    with torch.inference_mode(False):
        (first, _), (second, cached) = run_twice(SENTENCE, "endpoint")
    assert len(endpoint.asked) == 1 and "1" in cached
    for graph in (first, second):
        assert not [secret for secret in (KEY, endpoint.url, "tiny") if secret in json.dumps(graph)]
    assert not [name for name in node.GET_NODE_INFO_V1()["input"]["required"] if "key" in name or "url" in name]


def test_another_endpoint_is_another_answer(node, endpoint, monkeypatch):
    before = node.fingerprint_inputs(planner="endpoint")
    assert before == node.fingerprint_inputs(planner="endpoint", sentence="x") != node.fingerprint_inputs(planner="offline")
    monkeypatch.setenv("DREAMLAYER_LLM_MODEL", "other")
    assert node.fingerprint_inputs(planner="endpoint") != before
    assert node.fingerprint_inputs(planner="offline") == node.fingerprint_inputs(planner=None)


def test_no_endpoint(node, told):
    with told("no endpoint is configured"):
        node.execute(sentence=SENTENCE, planner="endpoint")
    assert node.fingerprint_inputs(planner="endpoint")


def test_a_workflow_does_not_use_what_was_not_chosen_for_this(node, told, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_MODEL", "g")
    with told("OPENAI_.*DREAMLAYER_LLM_URL") as caught:
        node.execute(sentence=SENTENCE, planner="endpoint")
    assert KEY not in str(caught.value)
    assert node.execute(sentence=SENTENCE).args[0].rows == ROWS + 1


def test_the_user_stops_an_endpoint(node, endpoint):
    endpoint.free.clear()
    threading.Thread(target=lambda: endpoint.begun.wait(60) and comfy.model_management.interrupt_current_processing(), daemon=True).start()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        node.execute(sentence=SENTENCE, planner="endpoint")
    assert not comfy.model_management.processing_interrupted()
    assert len(endpoint.asked) == 1


def test_nothing_of_a_configuration_file_is_shown(node, told, tmp_path):
    folder = Path(tmp_path) / "dreamlayer"
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"llm": {{"url": "http://localhost:1", "model": "m", "key": "{KEY} "')
    with told("not as it should be") as caught:
        node.execute(sentence=SENTENCE, planner="endpoint")
    assert KEY not in str(caught.value)
