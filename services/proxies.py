"""Which proxy a process uses, whatever library asks: the environment's for the world, none for this machine."""

import os

LOOPBACK = ("127.0.0.1", "::1", "localhost")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
SCHEMES = ("http://", "https://", "socks5://", "socks5h://")


class ProxyError(ValueError):
    """A proxy that the environment names cannot be used; the message says which and what to do."""


def spare_loopback() -> None:
    """Let nothing that goes to this machine go through a proxy. Raises ProxyError.

    It is told through the environment, which every client and every child reads.
    """
    proxies = {name: value for name in _spelled(*VARIABLES) if (value := os.environ.get(name))}
    for name, proxy in proxies.items():
        if proxy.startswith("socks://"):  # as desktops write it
            proxy = proxy.replace("socks", "socks5", 1)
            os.environ[name] = proxy
        if "://" in proxy and not proxy.lower().startswith(SCHEMES):
            raise ProxyError(f"{name} cannot be used: a proxy is one of {', '.join(SCHEMES)}. Change or unset it.")
    told = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if proxies and told.strip() != "*":
        spared = [name.strip() for name in told.split(",") if name.strip()]
        spared += [name for name in LOOPBACK if name not in spared]
        os.environ |= dict.fromkeys(_spelled("no_proxy"), ",".join(spared))


def _spelled(*names: str) -> list[str]:
    return [spelling for name in names for spelling in (name, name.upper())]
