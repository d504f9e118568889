"""Method: one method of an interface, with everything made ready that a call needs.

The idea: reading annotations is slow and is done once; after that a call is a constructor and two functions in C.

    the caller   arguments(*args, **kwargs) -> encode_arguments  ~~>  decode_arguments -> Handler.call    the server
    the caller                                decode_return  <~~  encode_return                           the server

The rule: a value that arrives was checked against its annotation, in either direction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from onerack.errors import UsageError
from onerack.rpc.attachment import received, view_of
from onerack.rpc.interface.arguments import (
    Given,
    arguments_decoder,
    arguments_decoder_json,
    arguments_encoder,
    arguments_struct,
    call_of,
    json_struct,
)
from onerack.rpc.interface.codec import Codec, Decode, Encode, codec_of
from onerack.rpc.interface.signature import ResultAttachment, Signature
from onerack.rpc.messages import Mode


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """What encodes raises UsageError, what decodes msgspec.ValidationError; both name the method and the parameter."""

    name: str
    full_name: str
    """`Service.name`"""
    mode: Mode
    attempts: int | None
    """At-least-once: so many. None: what the caller's configuration says."""
    signature: Signature

    Arguments: type[msgspec.Struct]
    """A field for each parameter that is in the message: neither attachment nor stream."""
    ArgumentsByName: type[msgspec.Struct]
    """The same as JSON holds it: an object by name."""
    arguments: Callable[..., Given]
    """Called as the method is; gives (Arguments, attachment, stream). Raises: TypeError, in Python's words."""
    encode_arguments: Encode
    decode_arguments: Decode
    decode_arguments_json: Decode
    """From an object by name, to `Arguments`."""

    encode_result: Encode
    decode_result: Decode
    encode_result_json: Encode

    attachment_parameter: str | None
    result_attachment: ResultAttachment | None
    """only: the result is an attachment, and its value None. last: the result is (value, attachment)."""
    stream_parameter: str | None
    item: Codec | None
    """Of what the caller streams."""
    result_is_stream: bool
    result_item: Codec | None
    """Of what the server streams; the result is then None."""

    def encode_return(self, returned: Any) -> tuple[bytes, memoryview | None]:
        """What a handler returned, as the body of a response and its attachment."""
        if self.result_attachment is None:
            return self.encode_result(returned), None
        value, attachment = self.split_return(returned)
        return self.encode_result(value), attachment

    def split_return(self, returned: Any) -> tuple[Any, memoryview | None]:
        """What a handler returned, as a value and its attachment. Raises: UsageError: it is not what was declared."""
        if self.result_attachment is None:
            return returned, None
        place = f"{self.full_name}: the result"
        if self.result_attachment == "only":
            return None, view_of(returned, place)
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise UsageError(f"{place} must be a tuple (value, attachment), and is {returned!r:.80}")
        value, attachment = returned
        return value, view_of(attachment, f"{place}'s attachment")

    def decode_return(self, body: bytes, attachment: Any = None) -> Any:
        """What the caller gets."""
        value = self.decode_result(body)
        if self.result_attachment is None:
            return value
        view = received(attachment)
        return view if self.result_attachment == "only" else (value, view)


def method_of(signature: Signature) -> Method:
    """Makes a method ready. Requires: its types were checked (`schema.hints`)."""
    name = signature.full_name
    struct, by_name = arguments_struct(signature), json_struct(signature)
    attachment, stream = signature.parameter("attachment"), signature.parameter("stream")
    result = codec_of(None if signature.result_is_stream else signature.result, f"{name}: the result")
    return Method(
        name=name.rpartition(".")[2],
        full_name=name,
        mode=signature.delivery.mode,
        attempts=signature.delivery.attempts,
        signature=signature,
        Arguments=struct,
        ArgumentsByName=by_name,
        arguments=call_of(signature, struct),
        encode_arguments=arguments_encoder(signature),
        decode_arguments=arguments_decoder(signature, struct),
        decode_arguments_json=arguments_decoder_json(signature, struct, by_name),
        encode_result=result.encode,
        decode_result=result.decode,
        encode_result_json=result.encode_json,
        attachment_parameter=attachment.name if attachment else None,
        result_attachment=signature.result_attachment,
        stream_parameter=stream.name if stream else None,
        item=codec_of(stream.hint, f"{signature.place(stream.name)}: an item") if stream else None,
        result_is_stream=signature.result_is_stream,
        result_item=codec_of(signature.result, f"{name}: an item") if signature.result_is_stream else None,
    )
