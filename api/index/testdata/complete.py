"""Verifies a completeness document, written from the documentation of the package and from nothing else.

Usage: complete.py DOCUMENT. It prints the indexes of the entries that have the key, or says what is wrong and exits with 1. The
signature of the checkpoint is another's business here: clients/python has it.
"""
import base64, hashlib, json, sys

KINDS = ("type", "actor", "session", "event", "subject")
SUBJECT = "bundle by destruction id keyId preparation record requester signer statement subject successor".split()
ZERO = bytes(32)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def be(n):
    return n.to_bytes(8, "big")


def want(ok, what):
    if not ok:
        raise ValueError(what)


def canonical(text):
    value = json.loads(text)
    again = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    want(again == text, "not canonical JSON")
    return value


def number(s):
    want(isinstance(s, str) and s.isascii() and s.isdigit() and str(int(s)) == s, "not a decimal number")
    return int(s)


def digest(s):
    want(isinstance(s, str) and len(s) == 64 and s == s.lower(), "not a hash")
    return bytes.fromhex(s)


def keys(entry):
    found = {"type:" + entry["type"], "actor:" + entry["actor"]["id"], "session:" + entry["actor"]["session"]}

    def walk(v):
        if isinstance(v, list):
            for x in v:
                walk(x)
        elif isinstance(v, dict):
            for name, x in v.items():
                if isinstance(x, str):
                    if name in ("event", "session"):
                        found.add(name + ":" + x)
                    elif name in SUBJECT:
                        found.add("subject:" + x)
                walk(x)

    walk(entry["body"])
    return {k for k in found if 0 < len(k.split(":", 1)[1].encode()) <= 256}


def read_entry(text):
    want(len(text.encode()) <= 65535, "a large entry")
    e = canonical(text)
    want(set(e) == {"actor", "body", "index", "prev", "request", "time", "type", "v"} and e["v"] == 1, "not an entry")
    want(set(e["actor"]) == {"id", "kind", "method", "session", "source"}, "not an entry's actor")
    return e, number(e["index"]), sha(b"\0", text.encode())


def root_of_path(leaf, index, size, proof):
    """RFC 9162, section 2.1.3.2."""
    fn, sn, h = index, size - 1, leaf
    for p in proof:
        want(sn > 0, "a proof that is too long")
        if fn & 1 or fn == sn:
            h = sha(b"\1", p, h)
            while fn & 1 == 0 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            h = sha(b"\1", h, p)
        fn, sn = fn >> 1, sn >> 1
    want(sn == 0, "a proof that is too short")
    return h


def verify(data):
    want(data.endswith(b"\n"), "no line feed at the end")
    lines = iter(data.decode().split("\n")[:-1])

    def line(*members):
        text = next(lines, None)
        want(text is not None and len(text.encode()) <= 262143, "the document ends early, or has a long line")
        v = canonical(text)
        want(set(v) == set(members), "other members than " + ", ".join(members))
        return v

    h = line("checkpoint", "commitment", "entries", "format", "key", "map", "subtrees")
    want(h["format"] == "signet-completeness/v1", "another format")
    key, n = h["key"], number(h["entries"])
    kind, _, value = key.partition(":")
    want(kind in KINDS and 0 < len(value.encode()) <= 256, "not a key")
    note = h["checkpoint"].split("\n")
    size, root = number(note[1]), base64.b64decode(note[2], validate=True)
    want(n <= size, "a commitment beyond the checkpoint")
    m = h["map"]
    want(set(m) == {"count", "key", "list", "siblings"} and len(m["siblings"]) <= 256, "not a map proof")
    count, siblings = number(m["count"]), [digest(s) for s in m["siblings"]]
    place, leaf, listed = sha(key.encode()), None, (0, ZERO)
    if (m["key"], m["list"], count) != ("", "", 0):
        want(count > 0, "a leaf without entries")
        leaf = digest(m["key"])
        if leaf == place:
            listed = (count, digest(m["list"]))
    want((h["commitment"] == "") == (n == 0) and (n > 0 or not siblings and leaf is None), "a commitment in part")

    out, state, last = [], ZERO, -1
    for _ in range(listed[0]):
        v = line("entry", "proof")
        e, index, own = read_entry(v["entry"])
        want(last < index < n and key in keys(e), "an entry that does not belong into the list")
        want(root_of_path(own, index, size, [digest(p) for p in v["proof"]]) == root, "an entry that is not in the tree")
        state, last = sha(b"\2", state, be(index), own), index
        out.append(index)

    # The complete subtrees of a tree, the largest first: appending a leaf joins equal ones.
    tree = list(zip([1 << b for b in range(62, -1, -1) if n >> b & 1], [digest(s) for s in h["subtrees"]], strict=True))
    committed = None
    for index in range(n, size):
        text = line("entry")["entry"]
        e, at, own = read_entry(text)
        want(at == index, "an entry in the place of another")
        tree.append((1, own))
        while len(tree) > 1 and tree[-1][0] == tree[-2][0]:
            (a, left), (_, right) = tree[-2:]
            tree[-2:] = [(2 * a, sha(b"\1", left, right))]
        if n and index == number(h["commitment"]):
            committed = e
        if key in keys(e):
            out.append(index)
    want(next(lines, None) is None, "more at the end")
    top = tree.pop()[1] if tree else sha()
    while tree:
        top = sha(b"\1", tree.pop()[1], top)
    want(top == root, "the entries at the end are not those of the tree")

    if n:
        want(committed is not None and committed["type"] == "index.committed", "no commitment")
        c = committed["body"]
        want(set(c) == {"entries", "format", "keys", "root"} and c["format"] == "signet-index/v1" and number(c["entries"]) == n
             and number(c["keys"]) > 0 and number(committed["index"]) - n <= 65536, "another commitment")
        bits = int.from_bytes(place, "big")
        node = ZERO
        if leaf is not None:
            node = sha(b"\0", leaf, be(count), digest(m["list"]))
            want((int.from_bytes(leaf, "big") ^ bits) >> 256 - len(siblings) == 0, "a leaf in another place")
        want(not siblings or siblings[-1] != ZERO, "a proof that goes on beyond its end")
        for depth in range(len(siblings) - 1, -1, -1):
            other = siblings[depth]
            node = sha(b"\1", other, node) if bits >> 255 - depth & 1 else sha(b"\1", node, other)
        want(node == digest(c["root"]), "the map is not the committed one")
        want((len([i for i in out if i < n]), state) == listed, "the list is not the committed one")
    return out


if __name__ == "__main__":
    try:
        with open(sys.argv[1], "rb") as f:
            print(*verify(f.read()))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        sys.exit(f"refused: {e}")
