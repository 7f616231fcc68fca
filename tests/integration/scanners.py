# SPDX-License-Identifier: ISC
"""Stand-ins for clamd and spamd that say what they are told, for what policyd must live with.

    with Scanner("clamd", b"stream: Eicar FOUND\\0") as s: ... av_scanner = clamd:127.0.0.1 {s.port}
    s.requests: the questions as they came; s.content(): what was shown, without the protocol around it

An answer is octets, or an action: CLOSE (nothing is said), SILENT (nothing, and the connection stays), EARLY(octets) (said before the
content has been read), SLOW(octets) (octet by octet, so that the whole never comes in time), REFUSE (nothing listens)."""
import os
import socket
import struct
import threading

CLOSE, SILENT, REFUSE = "close", "silent", "refuse"


class EARLY(bytes):
    pass


class SLOW(bytes):
    pass


class Scanner:
    def __init__(self, kind, *answers, path=None):
        self.kind, self.answers, self.path = kind, list(answers) or [CLOSE], path
        self.requests, self.connections, self.stop = [], 0, threading.Event()
        if path:
            self.server = socket.socket(socket.AF_UNIX)
            self.server.bind(path)
            os.chmod(path, 0o666)
        else:
            self.server = socket.socket()
            self.server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.server.bind(("127.0.0.1", 0))
            self.port = self.server.getsockname()[1]
        if self.answers[0] is REFUSE: # bound, so that nobody else gets the port
            return
        self.server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.stop.set()
        try:
            self.server.shutdown(socket.SHUT_RDWR) # a thread in accept() would keep it open
        except OSError:
            pass
        self.server.close()

    def _accept(self):
        while not self.stop.is_set():
            try:
                c, _ = self.server.accept()
            except OSError:
                return
            answer = self.answers[min(self.connections, len(self.answers) - 1)]
            self.connections += 1
            threading.Thread(target=self._talk, args=(c, answer), daemon=True).start()

    def _whole(self, got):
        """Whether the question is complete."""
        if self.kind == "clamd":
            at = len(b"zINSTREAM\0")
            while len(got) >= at + 4:
                n = struct.unpack(">I", got[at:at + 4])[0]
                if n == 0:
                    return True
                at += 4 + n
            return False
        head, blank, body = got.partition(b"\r\n\r\n")
        size = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        return bool(blank and size and len(body) >= size[0])

    def _talk(self, c, answer):
        got = b""
        with c:
            try:
                if isinstance(answer, EARLY):
                    c.recv(100)
                    c.sendall(answer)
                    return
                while not self._whole(got):
                    more = c.recv(65536)
                    if not more:
                        break
                    got += more
                self.requests.append(got)
                if isinstance(answer, SLOW):
                    for i in range(len(answer)):
                        c.sendall(answer[i:i + 1])
                        if self.stop.wait(1):
                            return
                elif answer is SILENT:
                    self.stop.wait(60)
                elif answer is not CLOSE:
                    c.sendall(answer)
            except OSError:
                pass

    def content(self, i=-1):
        got = self.requests[i]
        if self.kind != "clamd":
            return got.partition(b"\r\n\r\n")[2]
        at, out = len(b"zINSTREAM\0"), b""
        while True:
            n = struct.unpack(">I", got[at:at + 4])[0]
            if n == 0:
                return out
            out += got[at + 4:at + 4 + n]
            at += 4 + n


def spamd_answer(score, threshold, report="Report\n", word=None):
    return ("SPAMD/1.1 0 EX_OK\r\nContent-length: %d\r\nSpam: %s ; %s / %s\r\n\r\n%s"
            % (len(report), word or "True", score, threshold, report)).encode("latin-1")


def rspamd_answer(score, threshold, action):
    return ("RSPAMD/1.3 0 EX_OK\r\nMetric: default; False; %s / %s / 15.0\r\nAction: %s\r\nSymbol: A(1.00)\r\nSymbol: B\r\n" % (score, threshold, action)).encode()
