"""The OpenAPI description, as the application really behaves: one shape of error everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from boltseal.keywrap.broker import protocol as wire

if TYPE_CHECKING:
    from fastapi import FastAPI

_B64: Final = r"^([A-Za-z0-9+/]{4})+([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
_DIGEST: Final = r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"
_KEY: Final = f"^{wire.KEY.pattern}$"
_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "request"],
            "properties": {
                "code": {"type": "string", "enum": sorted(wire.STATUS)},
                "message": {"type": "string"},
                "request": {"type": "string", "description": "the id in the broker's audit"},
            },
        }
    },
}
_STATUSES: Final = {
    "400": "The request is not what it has to be",
    "401": "Nobody knows who asks",
    "403": "It is not allowed",
    "404": "There is no such thing",
    "408": "The request came too slowly",
    "409": "It does not fit to what is there",
    "413": "The request is too large",
    "429": "Too many requests",
    "431": "The request's head is too large",
    "503": "The broker cannot answer just now",
}
_OPEN: Final = ("/healthz", "/readyz", "/v1/ping", "/openapi.json")


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary="Holds key-encryption keys, and releases what they open by policy.",
            routes=app.routes,
        )
        _complete(document)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    schemas["ReleaseRequest"] = _request()
    schemas["ReleaseAnswer"] = _answer()
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "certificate": {"type": "mutualTLS"},
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, methods in document["paths"].items():
        for method in methods.values():
            responses = method["responses"]
            responses.pop("422", None)
            for status, text in _STATUSES.items():
                responses.setdefault(status, {"description": text, "content": content})
            if path not in _OPEN:
                method["security"] = [{"bearer": []}, {"certificate": []}]
            if path.startswith("/v1/keys/"):
                method["security"].append({})
    release = document["paths"].get(wire.PATH, {}).get("post")
    if release is not None:
        release["requestBody"] = _body("ReleaseRequest")
        release["responses"]["200"] = {"description": "Released", **_content("ReleaseAnswer")}
        release["responses"]["415"] = {"description": "Not JSON", "content": content}


def _content(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"content": {"application/json": {"schema": schema}}}


def _body(name: str) -> dict[str, Any]:
    return {"required": True, **_content(name)}


def _text(pattern: str, most: int) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, "maxLength": most, "minLength": 1}


def _request() -> dict[str, Any]:
    number = {"type": "integer", "minimum": 0, "maximum": 2**40}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["v", "nonce", "time", "key", "version", "packet", "kem", "hpke"],
        "properties": {
            "v": {"type": "integer", "const": wire.VERSION},
            "nonce": {**_text(_B64, 44), "minLength": 24},
            "time": number,
            "key": _text(_KEY, 191),
            "version": {"type": "integer", "minimum": 1, "maximum": wire.MAX_VERSION},
            "packet": _text(_B64, 4 * wire.MAX_PACKET_BYTES // 3 + 4),
            "kem": {"type": "string", "enum": [wire.XWING, wire.X25519]},
            "hpke": {**_text(_B64, 1624), "minLength": 44},
            "image": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": wire.MAX_NAME},
                    "digest": _text(_DIGEST, 160),
                },
            },
            "layer": _text(_DIGEST, 160),
            "platform": _text(r"^[A-Za-z0-9][A-Za-z0-9._/:+-]{0,127}$", 128),
            "evidence": {
                "type": "array",
                "minItems": 1,
                "maxItems": wire.MAX_EVIDENCE,
                "items": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["kind", "document"],
                    "properties": {
                        "kind": _text(r"^[a-z0-9][a-z0-9.-]{0,62}$", 63),
                        "document": _text(_B64, 4 * wire.MAX_EVIDENCE_BYTES // 3 + 4),
                    },
                },
            },
        },
    }


def _answer() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["v", "request", "time", "kem", "sealed"],
        "properties": {
            "v": {"type": "integer", "const": wire.VERSION},
            "request": {"type": "string"},
            "time": {"type": "integer"},
            "kem": {"type": "string", "enum": [wire.XWING, wire.X25519]},
            "sealed": {"type": "string"},
        },
    }
