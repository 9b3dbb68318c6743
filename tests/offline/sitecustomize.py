"""The network, off: only this machine can be reached.

Python imports a module of this name at its start: with this folder on PYTHONPATH, the kernels of
the notebooks and every other process that a test starts obey it too.
"""

import socket

LOCAL = ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "", None)


def _refuse(host):
    if isinstance(host, bytes):
        host = host.decode()
    if host not in LOCAL and host != socket.gethostname():
        raise OSError(f"the network is off in tests: {host!r} was asked for")


def _guarded(method):
    def connect(self, address):
        if isinstance(address, tuple):  # a path is a socket of this machine
            _refuse(address[0])
        return method(self, address)

    return connect


def _getaddrinfo(host, *args, _original=socket.getaddrinfo, **kwargs):
    _refuse(host)
    return _original(host, *args, **kwargs)


if socket.getaddrinfo is not _getaddrinfo:
    socket.getaddrinfo = _getaddrinfo
    socket.socket.connect = _guarded(socket.socket.connect)
    socket.socket.connect_ex = _guarded(socket.socket.connect_ex)
