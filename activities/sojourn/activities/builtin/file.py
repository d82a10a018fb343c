"""The tools ``read``, ``write`` and ``edit``."""

from typing import Annotated

from pydantic import Field

from sojourn.activities.builtin.output import Answer, ask
from sojourn.activities.context import ToolContext
from sojourn.activities.tool import ToolFailedError, tool
from sojourn.types.content import Base64Source, DocumentBlock, ImageBlock


class _Read(Answer):
    text: str | None = None
    media_type: str | None = None
    data: str | None = None


class _Written(Answer):
    size_bytes: int


class _Edited(Answer):
    replacements: int


@tool(idempotent=True)
async def read(
    context: ToolContext,
    file_path: str,
    view_range: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None,
) -> str | ImageBlock | DocumentBlock:
    """Read a file in the sandbox.

    Text comes back exactly as it is, up to 256 KiB; use view_range for a part of a larger file. Images (PNG, JPEG, GIF,
    WebP) and PDFs are shown to you as such. Directories cannot be read; list them with glob.

    Args:
        file_path: The file; a relative path starts at the workspace.
        view_range: Two numbers, first and last line, counted from 1; 0 as the last means up to the end.
    """
    found = await ask(context, "read", {"file_path": file_path, "view_range": list(view_range or []) or None}, _Read)
    if found.media_type is not None and found.data is not None:
        source = Base64Source(media_type=found.media_type, data=found.data)
        return DocumentBlock(source=source) if found.media_type == "application/pdf" else ImageBlock(source=source)
    if found.text is None:
        raise ToolFailedError("read: the sandbox gave an answer that makes no sense")
    return found.text.replace("\0", "\ufffd") or ("[these lines are empty]" if view_range else "[the file is empty]")


@tool
async def write(context: ToolContext, file_path: str, content: str) -> str:
    """Write a file in the sandbox.

    What the file holds is replaced entirely; to change a part of it, use edit. Missing folders are made.

    Args:
        file_path: The file; a relative path starts at the workspace.
        content: All that the file is to hold.
    """
    written = await ask(context, "write", {"file_path": file_path, "content": content}, _Written)
    return f"wrote {written.size_bytes} bytes to {file_path}"


@tool
async def edit(
    context: ToolContext, file_path: str, old_string: str, new_string: str, replace_all: bool | None = None
) -> str:
    """Replace a text in a file in the sandbox.

    old_string must be exactly what the file holds, with its indentation and line breaks, and must occur exactly once,
    so add lines around it until it does; or set replace_all.

    Args:
        file_path: The file; a relative path starts at the workspace.
        old_string: The text to replace.
        new_string: What comes in its place.
        replace_all: With true, every occurrence is replaced.
    """
    arguments = {"file_path": file_path, "old_string": old_string, "new_string": new_string}
    edited = await ask(context, "edit", {**arguments, "replace_all": bool(replace_all)}, _Edited)
    return f"edited {file_path} ({edited.replacements} replacement(s))"
