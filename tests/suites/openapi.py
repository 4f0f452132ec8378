"""The description of the API against OpenAPI 3.1, its own examples, and the golden answers of the dialects.

Called by openapi.sh with the printed document and the address of the served one.
"""

import json
import re
import sys
import urllib.request
from pathlib import Path

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

GOLDEN = Path("tests/golden")
ROOT = "urn:document"

wrong = []
counted = {"examples": 0, "golden answers": 0}


def pointer(*parts):
    return "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


class Document:
    def __init__(self, value):
        self.value = value
        resource = DRAFT202012.create_resource(value)
        self.registry = Registry().with_resource(ROOT, resource)

    def check(self, place, instance, what):
        """`instance` against the schema at `place`, a list of keys into the document."""
        fragment = pointer(*place)[1:].replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": f"{ROOT}#{fragment}"}
        validator = Draft202012Validator(
            schema, registry=self.registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        for error in validator.iter_errors(instance):
            wrong.append(f"{what}: {error.json_path}: {error.message[:300]}")

    def resolved(self, place):
        """The value at `place` and where it is, references followed."""
        value = self.value
        for part in place:
            value = value[part]
        if "$ref" in value:
            return self.resolved(value["$ref"].removeprefix("#/").split("/"))
        return place, value


def examples_of_content(document, place, content, what):
    for media_type, media in content.items():
        named = {name: example["value"] for name, example in media.get("examples", {}).items()}
        if "example" in media:
            named["example"] = media["example"]
        for name, value in named.items():
            counted["examples"] += 1
            document.check([*place, "content", media_type, "schema"], value, f"{what} {name}")


def check_examples(document):
    components = document.value["components"]
    for name, schema in components["schemas"].items():
        for example in schema.get("examples", []):
            counted["examples"] += 1
            document.check(["components", "schemas", name], example, f"schema {name}")
    for name, response in components["responses"].items():
        examples_of_content(document, ["components", "responses", name], response.get("content", {}), name)
    for path, item in document.value["paths"].items():
        for verb, operation in item.items():
            place = ["paths", path, verb]
            what = operation["operationId"]
            for status, response in operation["responses"].items():
                if "$ref" not in response:
                    examples_of_content(
                        document, [*place, "responses", status], response.get("content", {}), f"{what} {status}"
                    )


def operation_at(document, path):
    """The template of a path, the one with the fewest parameters first."""
    for template in sorted(document.value["paths"], key=lambda template: template.count("{")):
        pattern = re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path):
            return template
    return None


def check_golden(document):
    for file in sorted(GOLDEN.glob("00*.json")):
        for case in json.loads(file.read_text())["cases"]:
            request, what = case["request"], f"{file.stem} {case['name']}"
            template = operation_at(document, request["path"].split("?")[0])
            place = ["paths", template, request["method"].lower(), "responses", str(case["status"])]
            try:
                place, response = document.resolved(place)
            except KeyError:
                wrong.append(f"{what}: {case['status']} of {template} is not described")
                continue
            counted["golden answers"] += 1
            content = response.get("content", {})
            if case.get("body_empty"):
                if content:
                    wrong.append(f"{what}: has no body, but one is described")
            else:
                document.check([*place, "content", "application/json", "schema"], case["body"], what)


def main():
    printed = json.loads(Path(sys.argv[1]).read_text())
    with urllib.request.urlopen(sys.argv[2]) as answer:
        served = json.load(answer)
    if printed != served:
        wrong.append("the printed document is not the served one")
    validate(printed, cls=OpenAPIV31SpecValidator)
    document = Document(printed)
    check_examples(document)
    check_golden(document)
    # That the checks can fail at all: a wrong answer is seen.
    seen = len(wrong)
    document.check(["components", "schemas", "Alive"], {"status": "dead"}, "a wrong answer")
    if len(wrong) != seen + 1:
        sys.exit("the checks see nothing")
    wrong.pop()
    for line in wrong:
        print(line, file=sys.stderr)
    operations = sum(len(item) for item in printed["paths"].values())
    print(f"OpenAPI {printed['openapi']}, {operations} operations, {len(json.dumps(printed))} bytes: {counted}")
    sys.exit(1 if wrong else 0)


main()
