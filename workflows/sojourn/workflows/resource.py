"""What is mounted into the session's workspace, as the workflow keeps it: ids and paths."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from sojourn.types.error import InvalidRequestError
    from sojourn.types.file_error import ResourceMissingError
    from sojourn.types.name import RESOURCES_MEMO
    from sojourn.types.resource import (
        MAX_RESOURCES,
        ChangeResourcesInput,
        RepositoryResource,
        Resource,
        ResourceList,
        path_conflict,
    )


class Resources:
    """The list of a session's resources.

    Attributes:
        current: What is mounted, or will be before the next call that needs the workspace.
    """

    def __init__(self, resources: tuple[Resource, ...]) -> None:
        self.current = resources

    def changed(self, change: ChangeResourcesInput) -> tuple[Resource, ...]:
        """The list after a change.

        Raises:
            InvalidRequestError: There would be too many, or two in one place.
            ResourceMissingError: There is nothing of such an id.
        """
        ids = {each.id for each in self.current}
        for id in (*change.remove, *change.rotated):
            if id not in ids:
                raise ResourceMissingError(id)
        kept = [_rotated(each, change) for each in self.current if each.id not in change.remove]
        # Sent twice by a client whose first call was answered too late, it is there already.
        following = (*kept, *(each for each in change.add if each.id not in ids))
        if len(following) > MAX_RESOURCES:
            raise InvalidRequestError(f"a session has up to {MAX_RESOURCES} resources; remove some", param="resources")
        if (conflict := path_conflict(each.mount_path for each in following)) is not None:
            first, second = conflict
            text = f"mount_path: {second!r} is taken, or lies inside {first!r}; choose another"
            raise InvalidRequestError(text, param="mount_path")
        return following

    def change(self, change: ChangeResourcesInput) -> None:
        """Change the list, and show it to those who read without a worker."""
        self.current = self.changed(change)
        workflow.upsert_memo({RESOURCES_MEMO: ResourceList(data=self.current)})


def _rotated(resource: Resource, change: ChangeResourcesInput) -> Resource:
    if not isinstance(resource, RepositoryResource) or resource.id not in change.rotated:
        return resource
    return resource.model_copy(update={"has_token": True, "updated_at": workflow.now()})
