"""Pictures in and out of Supabase Storage. Objects are named `bucket/key`, as in the `*_url` columns."""

from collections.abc import Iterable
from urllib.parse import quote

import httpx
import stamina
from supabase import AsyncClient

from services.images.engines import EngineError
from services.images.engines.base import MAX_FILE_BYTES
from services.images.outage import Outage
from services.project import RefusedError, UnavailableError, remove_objects, request

TRANSFER_TIMEOUT = 120.0  # seconds for a whole file
UPLOAD_ATTEMPTS = 3
REMOVE_TIMEOUT = 5.0  # seconds; tidying up is not worth more


class Storage:
    """Reads sources and writes results, acting as `service_role`."""

    def __init__(self, client: AsyncClient, http: httpx.AsyncClient) -> None:
        self._client = client
        self._http = http
        self.outage = Outage()

    async def download(self, url: str) -> bytes:
        """Read the object `bucket/key`, at most MAX_FILE_BYTES.

        Raises EngineError when there is no such object or it is too big, UnavailableError when Storage
        is away.
        """
        if any(part in {"", ".", ".."} for part in url.split("/")):
            # An HTTP client resolves dots, which would lead out of the owner's folder.
            raise EngineError("The picture's storage key is not valid. Upload the picture again.")
        address = f"{self._client.storage_url}object/{quote(url)}"
        # Identity, because a small compressed answer can unpack into a very large one.
        headers = self._client.options.headers | {"Accept-Encoding": "identity"}
        with self.outage.watch():
            async with request(url, TRANSFER_TIMEOUT), self._http.stream("GET", address, headers=headers) as response:
                if response.is_success:
                    return await _read_bounded(response)
                raise await _refusal(response)

    async def upload(self, url: str, data: bytes, media_type: str) -> None:
        """Write the object `bucket/key`, over what is there.

        Raises EngineError when Storage finds it too big, UnavailableError when Storage is away.
        """
        with self.outage.watch():
            async for attempt in stamina.retry_context(
                UnavailableError, attempts=UPLOAD_ATTEMPTS, wait_initial=0.2, wait_max=2, wait_jitter=0.2
            ):
                with attempt:
                    await self._upload(url, data, media_type)

    async def _upload(self, url: str, data: bytes, media_type: str) -> None:
        bucket, _, key = url.partition("/")
        files = self._client.storage.from_(bucket)
        try:
            async with request(f"upload of {url}", TRANSFER_TIMEOUT):
                await files.upload(key, data, {"content-type": media_type, "upsert": "true"})
        except RefusedError as error:
            if error.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
                raise EngineError(
                    f"The result has {len(data) / (1 << 20):.1f} MiB, more than storage takes. "
                    "Start from a smaller picture or a smaller scale."
                ) from error
            raise

    async def remove(self, urls: Iterable[str]) -> None:
        """Remove objects. Raises UnavailableError and RefusedError."""
        await remove_objects(self._client, urls, REMOVE_TIMEOUT)


async def _read_bounded(response: httpx.Response) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_FILE_BYTES:  # the announced length is not to be trusted
            raise EngineError(
                f"The picture is larger than {MAX_FILE_BYTES >> 20} MiB. Save it smaller and upload it again."
            )
    return bytes(data)


async def _refusal(response: httpx.Response) -> Exception:
    await response.aread()
    if _lacks_object(response):
        return EngineError("The picture is not in storage. Upload it again.")
    return RefusedError(
        f"{response.request.url.path} was refused with status {response.status_code}: {response.text[:200]}",
        status=response.status_code,
    )


def _lacks_object(response: httpx.Response) -> bool:
    """Whether Storage itself says that it has no such object.

    It does so with a 400 or 404 and "statusCode": "404" in the body. A missing bucket looks much the same, and
    a wrong address is a 404 as well, but these are the operator's and no reason to upload the picture again.
    """
    try:
        body = response.json()
    except ValueError:
        return False
    return (
        isinstance(body, dict)
        and (str(body.get("statusCode")) == "404" or body.get("code") == "NoSuchKey")
        and "bucket" not in str(body.get("message")).lower()
    )
