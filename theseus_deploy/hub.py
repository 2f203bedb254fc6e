"""Put a finished folder, with its card, on the Hugging Face Hub."""

from pathlib import Path

from theseus_deploy.errors import HubError, brief


def check_login(repository: str) -> None:
    """Ask the Hub who we are, before any time is spent on what is to be uploaded.

    Raises:
        HubError: `repository` is no Hub id, nobody is logged in, or the Hub cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # in no __all__

    try:
        validate_repo_id(repository)
        HfApi().whoami()
    except Exception as error:  # ValueErrors, OSErrors, and those of whatever HTTP library is underneath
        raise _refused(repository, error) from error


def push(folder: Path, repository: str) -> str:
    """Upload a folder as one commit to a model repository, and return its address; one that is new is private.

    Raises:
        HubError: the Hub would not have it, or cannot be reached; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        made = api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, commit_message=f"Upload {folder.name}")
    except Exception as error:  # as above
        raise _refused(repository, error) from error
    return str(made)


def _refused(repository: str, error: Exception) -> HubError:
    return HubError(
        f"--push-to-hub {repository} was refused ({brief(error)}); log in with `hf auth login`, and check the name and "
        "the network"
    )
