"""Multipart forms with a video, which is written to its place on disk while it arrives."""

from typing import Any, TypeVar, get_origin

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from kinema.serve.limits import RefusedError
from kinema.serve.schema import VideoForm, describe_error
from kinema.serve.uploads import UploadFolder, Video, forget

Form = TypeVar("Form", bound=VideoForm)


async def read_form(request: Request, kind: type[Form], uploads: UploadFolder) -> Form:
    """Reads and checks a form; the caller deletes its upload.

    Raises:
        RefusedError: it is damaged (400) or wrong (422).
        OSError: the upload cannot be written.
    """
    parser = None
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            parser = _Parser(request, uploads)
            given = await parser.parse()
        else:
            given = await request.form()
        video = None if parser is None else parser.video
        return kind.model_validate(_values(given, kind, video))
    except BaseException as error:  # also when cancelled: no upload may stay on the disk
        if parser is not None and parser.video is not None:
            forget(parser.video)
        if isinstance(error, MultiPartException):
            raise RefusedError(400, "bad_request", f"The form is damaged: {error}") from error
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            raise RefusedError(422, "invalid", describe_error(first, first["loc"])) from error
        raise


class _Parser(MultiPartParser):
    """Writes the file of a form to an upload, not to a temporary file of its own.

    Attributes:
        video: The upload, once it has begun.
    """

    def __init__(self, request: Request, uploads: UploadFolder) -> None:
        super().__init__(request.headers, request.stream())
        _check_charset(request.headers["content-type"])
        self.video: Video | None = None
        self._uploads = uploads

    def on_headers_finished(self) -> None:
        """Begins a part of the form."""
        super().on_headers_finished()
        part = self._current_part.file
        if part is None:
            if self._current_part.field_name == "file":
                text = "file: Send it as a file, with a file name."
                raise RefusedError(422, "invalid", text)
            return
        if self.video is not None:
            raise RefusedError(422, "source", "The form has two files. Send one video as `file`.")
        part.file.close()  # nothing is in it
        self.video, file = self._uploads.begin(part.filename)
        self._files_to_close_on_error.append(file)  # type: ignore[arg-type]  # any file
        part.file = file

    async def parse(self) -> FormData:
        """Reads the form, and closes its file."""
        form = await super().parse()
        await form.close()
        return form


def _check_charset(content_type: str) -> None:
    """Refuses a form that is not UTF-8.

    The parser would take any codec of Python, of which some fail and one (punycode) computes for
    minutes.

    Raises:
        RefusedError: the form names another charset.
    """
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8"):
        text = "A form must be UTF-8: send it without charset or with charset=utf-8."
        raise RefusedError(400, "bad_request", text)


def _values(given: FormData, kind: type[VideoForm], video: Video | None) -> dict[str, Any]:
    """One value for each name; lists where the form has lists.

    Raises:
        RefusedError: a single value came twice.
    """
    values: dict[str, Any] = {}
    for name in given:
        # A browser sends the fields that nobody filled in as empty text.
        several = [
            video if isinstance(value, UploadFile) else value
            for value in given.getlist(name)
            if value != ""
        ]
        field = kind.model_fields.get(name)
        if field is not None and get_origin(field.annotation) is list:
            values[name] = several
        elif len(several) > 1:
            raise RefusedError(422, "invalid", f"{name}: It came {len(several)} times.")
        elif several or field is None:
            values[name] = several[0] if several else ""
    return values
