#!/usr/bin/env python3
"""Verify a Signet signature manifest, or an export of a Signet ledger, offline.

A second verifier, which shares no code with the first one (`signet verify`) and is held to the same verdicts by a corpus. It was written from the
published formats by somebody who knew the first one: a mistake of understanding may be in both. It needs Python 3.9 or newer, its standard library and the openssl command (3.0 or newer),
asks no server, and trusts nothing but the trust file that it is given.

    signet_verify.py --trust signet-trust.json --manifest signatures/release-v0.1.0.json --bundle dist/
    signet_verify.py --trust signet-trust.json --export ledger.tar

The exit code is the verdict: 0 verified, 1 internal failure, 2 wrong usage, 10 content differs, 11 a signature does not verify, 12 untrusted,
13 time not proven, 14 ledger, 15 policy not satisfied, 16 malformed. With several faults 16 wins, else the lowest from 10 up.

--at TIME asks what somebody found who verified at that time: signatures, revocations and other entries that are later do not count.

A passkey's signature counts where a chain of bindings, each vouched for by passkeys, leads from the trust file to it. A bundle is a folder, a
tar, a tar.gz or a zip.
"""
import argparse, base64, collections, contextlib, datetime, hashlib, json, os, re, shutil, stat, struct, subprocess, sys, tarfile, tempfile, unicodedata, zipfile

VERDICTS = {0: 'verified', 10: 'content', 11: 'signature', 12: 'untrusted', 13: 'time', 14: 'ledger', 15: 'policy', 16: 'malformed'}
CONTENT, SIGNATURE, UNTRUSTED, TIME, LEDGER, POLICY, MALFORMED = range(10, 17)


class Stop(Exception):
    """What follows cannot be judged. The fault has been noted."""


class Faults(list):
    """What does not hold: (code, where, what)."""

    def add(self, code, where, what):
        self.append((code, where, str(what)))

    @contextlib.contextmanager
    def check(self, code, where):
        """Whatever goes wrong inside, but for the machine's own failures, is a fault of this code."""
        try:
            yield
        except (Stop, OSError):
            raise
        except Exception as e:
            self.add(code, where, e if str(e) else repr(e))

    def verdict(self):
        codes = {code for code, _, _ in self}
        return 0 if not codes else MALFORMED if MALFORMED in codes else min(codes)


def must(condition, why):
    if not condition:
        raise ValueError(why)


def sha256(b):
    return hashlib.sha256(b).digest()


def hexsum(b):
    return hashlib.sha256(b).hexdigest()


# --- JSON: one encoding for each value --------------------------------------------------------------------------------------------------

def parse_json(b):
    """Strict JSON: UTF-8, no member twice, integers alone, at most 64 levels, nothing after the end."""
    depth, inside, escaped = 0, False, False
    for c in b:
        if inside:
            inside, escaped = (c != 0x22 or escaped), (c == 0x5c and not escaped)
        elif c == 0x22:
            inside = True
        elif c in b'[{':
            depth += 1
            must(depth <= 64, 'nested deeper than 64')
        elif c in b']}':
            depth -= 1

    def members(pairs):
        must(len({k for k, _ in pairs}) == len(pairs), 'a member is there twice')
        return dict(pairs)

    def integer(s):
        must(s != '-0' and abs(int(s)) < 2 ** 53, 'number %.40s' % s)
        return int(s)

    def refuse(s):
        raise ValueError('number %.40s' % s)
    v = json.loads(b.decode('utf-8'), object_pairs_hook=members, parse_int=integer, parse_float=refuse, parse_constant=refuse)
    canonical(v).encode('utf-8')  # refuses lone surrogates
    return v


def ordered(v):
    if isinstance(v, dict):
        return {k: ordered(v[k]) for k in sorted(v, key=lambda k: k.encode('utf-16-be', 'surrogatepass'))}
    return [ordered(x) for x in v] if isinstance(v, list) else v


def canonical(v):
    """RFC 8785, for the values that parse_json reads."""
    return json.dumps(ordered(v), ensure_ascii=False, separators=(',', ':'))


def canon(v):
    return canonical(v).encode('utf-8')


def parse_canonical(b):
    v = parse_json(b)
    must(canon(v) == b, 'not in canonical form')
    return v


# --- Shapes: what a value must look like ------------------------------------------------------------------------------------------------

def rx(pattern):
    compiled = re.compile(pattern, re.ASCII)

    def check(v):
        must(isinstance(v, str) and compiled.fullmatch(v), '%.80r is not of the form %s' % (v, pattern))
    return check


def obj(shape, optional=()):
    def check(v):
        must(isinstance(v, dict) and set(v) | set(optional) == set(shape) | set(optional), 'members %.300r, want %r' % (v, sorted(shape)))
        for k in v:
            try:
                shape[k](v[k])
            except ValueError as e:
                raise ValueError('%s: %s' % (k, e)) from None
    return check


def seq(item, most=1000, least=0, unique=None):
    def check(v):
        must(isinstance(v, list) and least <= len(v) <= most, 'not a list of %d to %d' % (least, most))
        for x in v:
            item(x)
        if unique:
            must(len({unique(x) for x in v}) == len(v), 'an element is there twice')
    return check


def num(least=0):
    def check(v):
        must(isinstance(v, int) and not isinstance(v, bool) and v >= least, '%.40r is not a number from %d' % (v, least))
    return check


def one_of(*values):
    def check(v):
        must(isinstance(v, str) and v in values, '%.80r is none of %r' % (v, values))
    return check


def boolean(v):
    must(isinstance(v, bool), 'not true or false')


def text(limit, least=0):
    """Free text: no control characters but line feeds, none that changes the direction of text."""
    def check(v):
        must(isinstance(v, str) and least <= len(v.encode()) <= limit, 'not a text of %d to %d bytes' % (least, limit))
        for c in v:
            must(c == '\n' or unicodedata.category(c) not in ('Cc', 'Zl', 'Zp') and c not in BIDI, 'the character U+%04X' % ord(c))
    return check


BIDI = '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'


def line(limit, least=0):
    """One line whose characters can all be seen."""
    def check(v):
        must(isinstance(v, str) and least <= len(v.encode()) <= limit, 'not a line of %d to %d bytes' % (least, limit))
        for c in v:
            must(unicodedata.category(c)[0] in 'LMNPS' or unicodedata.category(c) == 'Zs' or c in '\u200c\u200d', 'the character U+%04X' % ord(c))
    return check


def name(limit=256, least=0):
    def check(v):
        line(limit, least)(v)
        must(unicodedata.is_normalized('NFC', v) and v == v.strip() and '  ' not in v, '%.80r is not in its one form' % v)
        must(all(c == ' ' for c in v if unicodedata.category(c) == 'Zs'), '%.80r has other spaces' % v)
    return check


def unb64(s):
    must(isinstance(s, str), 'not base64')
    b = base64.b64decode(s, validate=True)
    must(base64.b64encode(b).decode() == s, 'base64 that is not canonical')
    return b


def b64(most, least=1):
    def check(v):
        must(least <= len(unb64(v)) <= most, 'not %d to %d bytes' % (least, most))
    return check


def instant(v):
    """Milliseconds since 1970 of a time with three decimals and a Z."""
    must(isinstance(v, str) and re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', v, re.ASCII), 'time %.40r' % (v,))
    t = datetime.datetime.strptime(v, '%Y-%m-%dT%H:%M:%S.%fZ').replace(tzinfo=datetime.timezone.utc)
    return (t - EPOCH) // datetime.timedelta(milliseconds=1)


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
either = lambda a, b: lambda v: b(v) if v != '' else None if a == '' else a(v)
HEX, HEX_OR_NONE = rx('[0-9a-f]{64}'), rx('([0-9a-f]{64})?')
DECIMAL, TOKEN, TOKEN64 = rx('0|[1-9][0-9]{0,18}'), rx('[a-z0-9][a-z0-9._-]{0,127}'), rx('[a-z0-9][a-z0-9._-]{0,63}')
APPROVER = rx('(sgn_|group:|role:)[a-z0-9][a-z0-9._-]{0,63}')
SIGNER, SERVICE, ACTOR = rx('sgn_[a-z0-9][a-z0-9._-]{0,63}'), rx('svc_[a-z0-9][a-z0-9._-]{0,63}'), rx('(sgn|svc)_[a-z0-9][a-z0-9._-]{0,63}')
EVENT = rx('[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}')
COMMIT = '[0-9a-f]{40}|[0-9a-f]{64}'
SEMVER = r'v(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-((0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*))?'
PERSONAL = ('password', 'password+totp', 'passkey', 'password+passkey')
SHA, ZONE = obj({'sha256': HEX}), rx('[A-Za-z0-9][A-Za-z0-9/_+-]{0,63}')


def table(key, value):
    def check(v):
        must(isinstance(v, dict), 'not an object')
        for k in v:
            must(k != '', 'an empty name')
            key(k), value(v[k])
    return check


def exactly(value):
    return one_of(value)


BUNDLE_REF = obj({'bytes': num(), 'digest': SHA, 'files': num(), 'format': exactly('signet-bundle/v1'), 'roles': table(line(1024), TOKEN64)})
RECORD = obj({
    'bundle': lambda v: BUNDLE_REF(v) if v != {} else None, 'event': obj({'id': EVENT, 'type': TOKEN64}), 'format': exactly('signet-record/v1'),
    'name': name(least=1), 'title': line(1024), 'version': rx(r'v?[A-Za-z0-9][A-Za-z0-9._-]{0,63}'), 'supersedes': HEX_OR_NONE,
    'policy': obj({
        'resolved': obj({
            'anyRejectionVetoes': boolean, 'approvers': seq(obj({'id': APPROVER, 'name': name(least=1)}), unique=lambda a: a['id']),
            'excludedSigners': seq(SIGNER, unique=str), 'exclusions': seq(line(1024, 1), unique=str), 'k': num(1), 'requires': one_of(*PERSONAL)}),
        'template': obj({'digest': SHA, 'id': TOKEN64, 'version': num(1)})}),
    'readiness': obj({
        'blockers': seq(obj({'cleared': obj({'at': either('', instant), 'by': either('', ACTOR), 'reason': text(16000)}), 'id': TOKEN, 'title': line(1024)}),
                        unique=lambda b: b['id']),
        'gates': seq(obj({'evaluator': obj({'id': TOKEN, 'version': line(128)}), 'id': TOKEN, 'result': TOKEN64,
                          'inputs': seq(obj({'digest': SHA, 'name': line(1024)}))}), unique=lambda g: g['id'])}),
    'source': obj({'branch': line(1024), 'commit': rx('(%s)?' % COMMIT), 'repo': line(1024), 'tag': line(1024), 'trees': table(line(1024), rx(COMMIT))}),
    'system': obj({'access': one_of('closed', 'open'), 'configuration': HEX_OR_NONE, 'documents': HEX_OR_NONE,
                   'environment': one_of('production', 'validation', 'demo'), 'software': line(256), 'strategy': HEX_OR_NONE}, ('access',))})


def origin(v):
    must(isinstance(v, str) and 0 < len(v.encode()) <= 256 and not any(c in '+\u2028\u2029' or c.isspace() or unicodedata.category(c) == 'Cc' for c in v),
         '%.80r is not the name of a ledger' % (v,))


def any_value(v):
    must(v is not None, 'null')
    if isinstance(v, str):
        text(65536)(v)
    for x in v.values() if isinstance(v, dict) else v if isinstance(v, list) else ():
        any_value(x)


STATEMENT = obj({
    '_type': exactly('https://in-toto.io/Statement/v1'), 'predicateType': exactly('https://github.com/signetd/signet/signature/v1'),
    'subject': seq(obj({'digest': SHA, 'name': line(520, 1)}), 2, 1),
    'predicate': obj({
        'activity': obj({'attempt': rx('0|[1-9][0-9]{0,9}'), 'id': either('', TOKEN)}),
        'decision': one_of('approve', 'reject', 'abstain', 'review', 'author', 'withdraw', 'seal'), 'event': EVENT, 'expires': instant,
        'inputs': seq(obj({'name': line(256, 1), 'value': any_value}), unique=lambda i: i['name']),
        'ledger': obj({'origin': origin, 'root': HEX, 'size': DECIMAL}), 'meaning': obj({'id': TOKEN64, 'text': text(65536, 1), 'version': num(1)}),
        'preparation': rx('prp_[a-z0-9][a-z0-9._-]{0,63}'), 'preparedAt': instant, 'previous': HEX_OR_NONE, 'reason': text(16000),
        'requires': one_of('service', *PERSONAL), 'statement': text(65536, 1),
        'signer': obj({'enrolment': HEX, 'id': ACTOR, 'name': name(least=1), 'organisation': name(), 'roles': seq(TOKEN64, 32, unique=str), 'title': name()}),
        'zone': obj({'name': ZONE, 'offset': rx(r'(\+(0\d|1[0-8]):[0-5]\d)|(-(?!00:00)(0\d|1[0-8]):[0-5]\d)')})})})


def url64(most):
    def check(v):
        must(isinstance(v, str) and re.fullmatch('[A-Za-z0-9_-]+', v, re.ASCII) and 0 < len(unurl64(v)) <= most and
             base64.urlsafe_b64encode(unurl64(v)).rstrip(b'=').decode() == v, 'not base64url without padding')
    return check


def unurl64(s):
    return base64.urlsafe_b64decode(s + '=' * (-len(s) % 4))


HOST = r'([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?'


def check_relying_party(rp, origins):
    must(re.fullmatch(HOST, rp, re.ASCII) and len(rp) <= 253, 'a relying party that is no host name')
    must(1 <= len(origins) <= 8 and len(set(origins)) == len(origins), 'no origins, too many, or one twice')
    for o in origins:
        at = re.fullmatch('https://(%s)(:[1-9][0-9]{0,4})?' % HOST, o, re.ASCII)
        must(at and (at.group(1) == rp or at.group(1).endswith('.' + rp)), 'an origin that does not belong to %s' % rp)
        port = o.rpartition(':')[2]
        must(len(at.group(1)) <= 253 and (not port.isdigit() or int(port) < 65536 and int(port) != 443), 'a port that an origin cannot have')


P256 = 2 ** 256 - 2 ** 224 + 2 ** 192 + 2 ** 96 - 1, 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b


def passkey_algorithm(spki):
    """What a passkey signs with. Each key has one encoding."""
    if spki[:26] == bytes.fromhex('3059301306072a8648ce3d020106082a8648ce3d030107034200') and len(spki) == 91 and spki[26] == 4:
        x, y, p = int.from_bytes(spki[27:59], 'big'), int.from_bytes(spki[59:], 'big'), P256[0]
        must(x < p and y < p and (y * y - x ** 3 + 3 * x - P256[1]) % p == 0, 'a point that is not on the curve')
        return 'ecdsa-p256-sha256'
    if spki[:12] == bytes.fromhex('302a300506032b6570032100') and len(spki) == 44:
        return 'ed25519'

    def tlv(tag, content):
        size = len(content)
        head = bytes([size]) if size < 128 else (lambda b: bytes([0x80 | len(b)]) + b)(size.to_bytes((size.bit_length() + 7) // 8, 'big'))
        return bytes([tag]) + head + content

    def number(n):
        return tlv(2, n.to_bytes(n.bit_length() // 8 + 1, 'big'))
    (_, _, _), (_, bits, _) = der(one(spki))
    n, e = (int.from_bytes(c, 'big') for _, c, _ in der(one(bits[1:])))
    must(2048 <= n.bit_length() <= 8192 and 2 < e < 1 << 31 and e % 2, 'a key of another size')
    again = tlv(0x30, bytes.fromhex('300d06092a864886f70d0101010500') + tlv(3, b'\0' + tlv(0x30, number(n) + number(e))))
    must(spki == again and len(spki) <= 2048, 'a key that is not in its one encoding')
    return 'rsa-pkcs1-sha256'


def check_bound(body):
    BOUND(body)
    must((body['keyId'], body['signer']) == (hexsum(unb64(body['binding']['spki'])), body['binding']['signer']), 'the key or the signer of another binding')
    check_relying_party(body['binding']['rpId'], body['binding']['origins'])
    passkey_algorithm(unb64(body['binding']['spki']))


ENDED = 'signer.revoked', 'service.revoked'
URL64, NONCE = url64(65536), rx('[0-9a-f]{32}')
BOUND = obj({
    'binding': obj({
        'aaguid': NONCE, 'backupEligible': boolean, 'credentialId': url64(1023), 'format': exactly('signet-passkey-binding/v1'), 'ledger': line(256, 1),
        'name': line(256, 1), 'nonce': NONCE, 'origins': seq(line(1024, 1), 8, 1), 'registered': instant, 'rpId': line(253, 1), 'signer': SIGNER, 'spki': b64(2048),
        'vouches': boolean}),
    'keyId': HEX, 'signer': SIGNER, 'vouchers': seq(obj({
        'authenticatorData': url64(37), 'clientDataJSON': url64(4096), 'credentialId': url64(1023), 'signature': url64(1024), 'signer': SIGNER}), 2,
        unique=lambda v: v['signer'])})
UNBOUND = obj({'by': line(256, 1), 'keyId': HEX, 'nonce': NONCE, 'reason': lambda v: must(isinstance(v, str) and len(v.encode()) <= 16000, 'no reason'), 'signer': SIGNER})
HOLDER = rx('(sgn_|group:)[a-z0-9][a-z0-9._-]{0,63}')
MEMBERS = seq(obj({'signer': SIGNER}), 400)
RIGHTS = {
    'role.assigned': lambda v: (obj({'end': instant, 'id': rx('ras_[a-z0-9][a-z0-9._-]{0,63}'), 'reason': text(16000), 'role': TOKEN64, 'start': instant,
                                     'subject': HOLDER})(v), must(not instant(v['end']) or instant(v['start']) < instant(v['end']), 'it ends before it begins')),
    'role.withdrawn': obj({'id': rx('(ras_[a-z0-9][a-z0-9._-]{0,63})?'), 'reason': text(16000), 'role': TOKEN64, 'subject': HOLDER}),
    'group.changed': lambda v: (
        obj({'added': MEMBERS, 'displayName': name(), 'id': rx('group:[a-z0-9][a-z0-9._-]{0,63}'), 'members': seq(SIGNER, 400), 'reason': text(16000),
             'removed': MEMBERS, 'was': name()})(v),
        must(all(a < b for a, b in zip(v['members'], v['members'][1:])), 'the members are not sorted'),
        must(all(m['signer'] in v['members'] for m in v['added']) and not any(m['signer'] in v['members'] for m in v['removed']), 'it contradicts itself'))}
ASSERTION = ('authenticatorData', 'clientDataJSON', 'credentialId', 'signature')
ENTRY_PROOF = {'entry': b64(65535), 'proof': lambda v: must(isinstance(v, str) and 0 < len(v.encode()) <= 1 << 17, 'no proof')}
MANIFEST = obj({
    'bundle': lambda v: check_document(v) if v != {} else None, 'mediaType': exactly('application/vnd.signet.manifest.v1+json'), 'record': RECORD,
    'renewals': seq(lambda v: None, 0), 'support': seq(obj(ENTRY_PROOF), 4000),
    'signatures': seq(obj({
        'authorization': obj({'kind': one_of('service', *PERSONAL), **{m: URL64 for m in ASSERTION}}, ASSERTION),
        'certificates': seq(b64(65536), 16, 1), 'ledger': obj({'consistency': seq(b64(32, 32), 63), **ENTRY_PROOF}),
        'signature': obj({'algorithm': one_of('ecdsa-p256-sha256', 'ecdsa-p384-sha384', 'ecdsa-p521-sha512', 'ed25519', 'rsa-pss-sha256'),
                          'keyId': HEX, 'value': b64(8192)}),
        'statement': STATEMENT, 'timestamps': seq(b64(65536), 8, 1)}), 1000, 1)})
TRUST = obj({
    'issuer': rx(r"https://(?=.{1,1016}$)[A-Za-z0-9._~:/\[\]!$&'()*+,;=%-]*[A-Za-z0-9._~:\[\]!$&'()*+,;=%-]"), 'mediaType': exactly('application/vnd.signet.trust.v1+json'), 'name': line(256),
    'ledgers': seq(obj({'fromSize': DECIMAL, 'origin': line(256, 1), 'toSize': either('', DECIMAL), 'vkey': line(1024, 1), 'witnessPolicy': lambda v: must(isinstance(v, str) and len(v.encode()) <= 65536, 'no text, or a long one')})),
    'passkeys': seq(obj({'credentialId': url64(1023), 'name': name(least=1), 'origins': seq(line(1024)), 'rpId': line(256, 1), 'signer': SIGNER, 'spki': b64(2048)})),
    'policies': seq(obj({'digest': HEX, 'requires': one_of(*PERSONAL)})), 'revoked': seq(obj({'from': instant, 'keyId': HEX})),
    'signerRoots': seq(obj({'certificate': b64(65536), 'from': instant, 'to': either('', instant)})),
    'timestampRoots': seq(obj({'certificate': b64(65536), 'from': instant, 'to': either('', instant)}))})


def enrolled(shape):
    def check(v):
        obj({'certificate': HEX_OR_NONE, 'keyId': HEX_OR_NONE, 'name': name(least=1), 'organisation': name(), 'roles': seq(TOKEN64, 32, unique=str), **shape})(v)
        must(bool(v['certificate']) == bool(v['keyId']), 'a certificate and a key belong together')
    return check


PERSON = enrolled({'accountability': line(256), 'credential': HEX_OR_NONE, 'id': SIGNER, 'proofing': HEX_OR_NONE, 'title': name(), 'userName': line(256, 1),
                   'zone': ZONE})
MACHINE = enrolled({'clients': seq(HEX, 100, unique=str), 'id': SERVICE})
REVOKED = obj({'by': TOKEN, 'id': ACTOR, 'keyId': HEX_OR_NONE, 'reason': text(16000)})
# The bodies of the supporting entries that a verdict leans on.
BODIES = {'signer.enrolled': PERSON, 'signer.renewed': PERSON, 'service.enrolled': MACHINE, 'service.renewed': MACHINE, 'signer.revoked': REVOKED,
          'service.revoked': REVOKED, 'record.superseded': obj({'by': EVENT, 'event': EVENT, 'record': HEX})}


def check_statement(s):
    p = s['predicate']
    service = p['signer']['id'].startswith('svc_')
    must(service == (p['decision'] == 'seal') == (p['requires'] == 'service'), 'a seal is a service\'s, and a service does nothing else')
    must((p['meaning']['id'] == 'closing') == (p['signer']['id'] == 'svc_closing'), 'the closing meaning and the closing service belong together')
    must(service or p['reason'].strip(), 'no reason')
    must(instant(p['preparedAt']) < instant(p['expires']), 'it expires before it is prepared')
    must(p['activity']['id'] or p['activity']['attempt'] == '0', 'an attempt of no activity')
    must(p['ledger']['size'] != '0' or p['ledger']['root'] == hexsum(b''), 'a root of no entries')
    subject = s['subject'][-1]['name']
    must(subject.endswith('#record') and (len(s['subject']) == 1 or s['subject'][0]['name'] + '#record' == subject), 'the subjects are not bundle and record')


def check_record(r):
    must(r['event']['type'] != 'release' or re.fullmatch(SEMVER, r['version']) and r['source']['commit'], 'a release has a version vX.Y.Z and a commit')
    approvers = [a['id'] for a in r['policy']['resolved']['approvers']]
    must(len(r['bundle'].get('roles', ())) <= r['bundle'].get('files', 0), 'more roles than files')
    must(r['policy']['resolved']['k'] <= len(approvers) or not all(a.startswith('sgn_') for a in approvers), 'a threshold above the number of approvers')
    for b in r['readiness']['blockers']:
        must(len({bool(x) for x in b['cleared'].values()}) == 1, 'a blocker that is cleared in part')


# --- DER and certificates ---------------------------------------------------------------------------------------------------------------

def der(b):
    """The elements of DER: (tag, content, whole)."""
    out, i = [], 0
    while i < len(b):
        start, tag, n = i, b[i], b[i + 1]
        i += 2
        must(tag & 0x1f != 0x1f, 'a long tag')
        if n >= 0x80:
            size = n & 0x7f
            must(1 <= size <= 4 and b[i] != 0, 'a length that is not DER')
            n = int.from_bytes(b[i:i + size], 'big')
            must(n >= 0x80 and len(b[i:i + size]) == size and n >= 1 << 8 * (size - 1), 'a length that is not DER')
            i += size
        must(i + n <= len(b), 'truncated DER')
        out.append((tag, b[i:i + n], b[start:i + n]))
        i += n
    return out


def one(b, tag=0x30):
    """The content of the one element that b is."""
    e = der(b)
    must(len(e) == 1 and e[0][0] == tag, 'not one element of DER of the tag %#x' % tag)
    return e[0][1]


def check_der(b):
    """Every element inside is DER, as far as this program tells."""
    for tag, content, _ in der(b):
        must(tag & 0x20 or tag & 0x1f not in (0x10, 0x11), 'a SEQUENCE or SET that is not constructed')
        if tag & 0x20:
            check_der(content)


def oid(s):
    parts = [int(x) for x in s.split('.')]
    out = b''
    for n in [parts[0] * 40 + parts[1]] + parts[2:]:
        group = [n & 0x7f]
        while n > 0x7f:
            n >>= 7
            group.insert(0, n & 0x7f | 0x80)
        out += bytes(group)
    return out


ALT_NAME, KEY_USAGE, EXT_USAGE, BASIC = oid('2.5.29.17'), oid('2.5.29.15'), oid('2.5.29.37'), oid('2.5.29.19')
CODE, DOCUMENT, STAMPING = oid('1.3.6.1.5.5.7.3.3'), oid('1.3.6.1.5.5.7.3.36'), oid('1.3.6.1.5.5.7.3.8')
CURVES = {oid('1.2.840.10045.3.1.7'): 'ecdsa-p256-sha256', oid('1.3.132.0.34'): 'ecdsa-p384-sha384', oid('1.3.132.0.35'): 'ecdsa-p521-sha512', oid('1.3.132.0.33'): None}


def key_algorithm(spki):
    """Which algorithm of the manifest a SubjectPublicKeyInfo is for; None: a key that can be read and does not count."""
    (_, algorithm, _), (_, bits, _) = der(one(spki))
    kind = algorithm[2:2 + algorithm[1]]
    if kind == oid('1.2.840.10045.2.1'):
        curve = der(algorithm)[1][1]
        must(curve in CURVES, 'an elliptic curve that is not known')
        return CURVES[curve]
    if kind == oid('1.3.101.112'):
        return 'ed25519'
    if kind == oid('1.2.840.113549.1.1.1'):
        modulus = int.from_bytes(der(one(bits[1:]))[0][1], 'big')
        return 'rsa-pss-sha256' if 2048 <= modulus.bit_length() <= 8192 else None
    return None


class Certificate:
    def __init__(self, raw):
        self.raw = raw
        fields = der(der(one(raw))[0][1])
        must(fields[0][0] == 0xa0 and one(fields[0][1], 2) == b'\x02', 'not a certificate of version 3')
        self.serial, self.issuer, self.subject, self.spki = fields[1][2], fields[3][2], fields[5][2], fields[6][2]
        self.names = [tuple(c for _, c, _ in der(a)) for _, rdn, _ in der(fields[5][1]) for _, a, _ in der(rdn)]
        self.extensions, self.critical = {}, set()
        for tag, content, _ in fields[7:]:
            if tag == 0xa3:
                for _, e, _ in der(one(content)):
                    parts = der(e)
                    must(parts[0][1] not in self.extensions, 'an extension twice')
                    self.extensions[parts[0][1]] = parts[-1][1]
                    if len(parts) == 3:
                        self.critical.add(parts[0][1])
        self.key_id = hexsum(self.spki)

    def ca(self):
        basic = self.extensions.get(BASIC)
        return basic is not None and one(basic)[:3] == b'\x01\x01\xff'

    def usages(self):
        return sorted(c for _, c, _ in der(one(self.extensions.get(EXT_USAGE, b''))))

    def values(self, attribute):
        return [v.decode('utf-8') for a, v in self.names if a == oid(attribute)]


def pem(der_bytes, what='CERTIFICATE'):
    b = base64.b64encode(der_bytes).decode()
    return '-----BEGIN %s-----\n%s\n-----END %s-----\n' % (what, '\n'.join(b[i:i + 64] for i in range(0, len(b), 64)), what)


class OpenSSL:
    """The openssl command. Answers are remembered."""

    known = {}

    def __init__(self, folder):
        self.folder = folder

    def run(self, *args, **files):
        key = (args, tuple(sorted(files.items())))
        if key not in self.known:
            for n, content in files.items():
                with open(os.path.join(self.folder, n), 'wb') as f:
                    f.write(content if isinstance(content, bytes) else content.encode())
            p = subprocess.run(('openssl',) + args, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, 'LC_ALL': 'C', 'OPENSSL_CONF': os.devnull})
            self.known[key] = p.returncode == 0, (p.stdout + p.stderr).decode('utf-8', 'replace').strip()
        return self.known[key]

    def signed(self, spki, algorithm, message, signature):
        """Whether the key of an algorithm of the manifest signed the message."""
        args = ['pkeyutl', '-verify', '-pubin', '-inkey', 'key', '-sigfile', 'signature', '-rawin', '-in', 'message']
        if algorithm != 'ed25519':
            args += ['-digest', algorithm.rsplit('-', 1)[1]]
        if algorithm == 'rsa-pss-sha256':
            args += ['-pkeyopt', 'rsa_padding_mode:pss', '-pkeyopt', 'rsa_pss_saltlen:32', '-pkeyopt', 'rsa_mgf1_md:sha256']
        return len(signature) > 0 and self.run(*args, key=pem(spki, 'PUBLIC KEY'), signature=signature, message=message)[0]

    def chain(self, certificates, at):
        """Leads certificates, the leaf first, to the last one."""
        for a, b in zip(certificates, certificates[1:]):
            must(a.issuer == b.subject, 'the certificates are not the chain from the signer to the root, in this order')
        ok, said = self.run('verify', '-attime', str(at // 1000), '-CAfile', 'root', '-untrusted', 'middle', 'leaf', leaf=pem(certificates[0].raw),
                            root=pem(certificates[-1].raw), middle=''.join(pem(c.raw) for c in certificates[1:-1] or certificates[-1:]))
        must(ok, 'no chain to the pinned root: %s' % said[-200:])

    def stamp(self, token, digest, roots, at):
        ok, said = self.run('ts', '-verify', '-digest', digest.hex(), '-in', 'token', '-token_in', '-CAfile', 'roots', '-attime', str(at // 1000),
                            token=token, roots=''.join(pem(r) for r in roots))
        must(ok, 'the time-stamp does not verify: %s' % said[-200:])


# --- Trust --------------------------------------------------------------------------------------------------------------------------------

class Trust:
    def __init__(self, raw, ssl, faults, asked=None):
        """asked: the time, in milliseconds, at which somebody would have verified; None: everything counts."""
        self.ssl, self.faults, self.unwitnessed, self.known, self.asked = ssl, faults, False, {}, asked
        self.issuer, self.ledgers, self.policies, self.revoked, self.passkeys, self.signer_roots, self.timestamp_roots = '', [], [], [], [], [], []
        if not raw:
            faults.add(UNTRUSTED, 'trust', 'no trust file is pinned, so nothing is trusted')
            return
        with faults.check(MALFORMED, 'trust'):
            t = parse_json(raw)
            TRUST(t)
            for r in t['signerRoots'] + t['timestampRoots']:
                must(Certificate(unb64(r['certificate'])).ca(), 'a pinned root is not a CA')
                must(not r['to'] or instant(r['from']) < instant(r['to']), 'a pinned root that holds at no time')
            for i, l in enumerate(t['ledgers']):
                must(verifier_key(l['vkey'])[0] == l['origin'], 'a verifier key of another origin')
                span = lambda x: (int(x['fromSize']), int(x['toSize'] or 1 << 62))
                must(span(l)[0] < span(l)[1], 'a key that holds for no size')
                for o in t['ledgers'][:i]:
                    must(o['origin'] != l['origin'] or span(l)[0] >= span(o)[1] or span(o)[0] >= span(l)[1], 'two keys for the same sizes')
            for p in t['passkeys']:
                check_relying_party(p['rpId'], p['origins'])
                passkey_algorithm(unb64(p['spki']))
            self.issuer, self.ledgers, self.policies, self.revoked, self.passkeys = t['issuer'], t['ledgers'], t['policies'], t['revoked'], t['passkeys']
            self.revoked = [r for r in self.revoked if not self.later(r['from'])]
            self.signer_roots, self.timestamp_roots = t['signerRoots'], t['timestampRoots']
            return
        raise Stop

    def later(self, time):
        """Whether a time is later than the one that was asked for."""
        return self.asked is not None and instant(time) > self.asked

    def holding(self, roots, at):
        return [unb64(r['certificate']) for r in roots if at is None or instant(r['from']) <= at and (not r['to'] or at < instant(r['to']))]

    def not_revoked(self, certificates, at):
        for c in certificates:
            for r in self.revoked:
                must(r['keyId'] != c.key_id or at < instant(r['from']), 'the key %s no longer counts from %s' % (c.key_id, r['from']))

    def checkpoint(self, note, witnesses=True):
        """(origin, size, root) of a signed note that a pinned key signed, and the pinned witnesses cosigned."""
        if (note, witnesses) not in self.known:
            try:
                self.known[note, witnesses] = self.open(note, witnesses), None
            except ValueError as e:
                self.known[note, witnesses] = None, e
        value, error = self.known[note, witnesses]
        if error:
            raise error
        return value

    def open(self, note, witnesses):
        origin, size, root, body, lines = parse_note(note)
        of_origin = [l for l in self.ledgers if l['origin'] == origin]
        must(of_origin, 'the ledger %r is not pinned' % origin)
        of_origin = [l for l in of_origin if int(l['fromSize']) <= size and (not l['toSize'] or size < int(l['toSize']))]
        must(of_origin, 'no pinned key holds for the size %d' % size)
        who, key_hash, algorithm, spki = verifier_key(of_origin[0]['vkey'])
        own = [raw[4:] for n, raw in lines if n == who and raw[:4] == key_hash]
        must(len(own) == 1 and self.ssl.signed(spki, algorithm, body, own[0]), 'the checkpoint is not signed by the pinned key')
        if witnesses and not of_origin[0]['witnessPolicy']:
            self.unwitnessed = True
        elif witnesses:
            self.witnessed(of_origin[0], body, lines)
        return origin, size, root

    def witnessed(self, ledger, body, lines):
        """Holds a checkpoint against a C2SP tlog-policy."""
        met, logs, keys, taken, quorum = {}, [], set(), set(), None
        must(not re.search('[\0-\x08\x0b-\x1f\x7f]', ledger['witnessPolicy']), 'a control character in the witness policy')
        for words in (re.findall('[^ \t]+', l) for l in ledger['witnessPolicy'].split('\n')):
            if not words or words[0].startswith('#'):
                continue
            new = len(words) > 1 and words[1] not in met and words[1] != 'none'
            if words[0] == 'log' and len(words) in (2, 3):
                spki = verifier_key(words[1])[3]
                must(spki not in keys, 'a log twice')
                keys.add(spki)
                logs.append(words[1])
            elif words[0] == 'witness' and len(words) in (3, 4) and new:
                who, key_hash, algorithm, spki = verifier_key(words[2], 4)
                must((4, spki) not in keys, 'a witness twice')
                keys.add((4, spki))
                met[words[1]] = any(n == who and raw[:4] == key_hash and len(raw) == 76 and 0 < struct.unpack('>Q', raw[4:12])[0] < 1 << 63 and
                                    self.ssl.signed(spki, algorithm, b'cosignature/v1\ntime %d\n' % struct.unpack('>Q', raw[4:12]) + body, raw[12:])
                                    for n, raw in lines)
            elif words[0] == 'group' and len(words) >= 4 and new:
                members = words[3:]
                must(all(m in met and m not in taken for m in members) and len(set(members)) == len(members), 'a group with members that it cannot have')
                taken.update(members)
                least = {'any': 1, 'all': len(members)}.get(words[2]) or int(words[2] if re.fullmatch('[1-9][0-9]*', words[2]) else 0)
                must(1 <= least <= len(members), 'a group that asks for %s' % words[2])
                met[words[1]] = sum(met[m] for m in members) >= least
            elif words[0] == 'quorum' and len(words) == 2 and quorum is None and (words[1] in met or words[1] == 'none'):
                quorum = words[1]
            else:
                raise ValueError('the witness policy cannot be read: %.80r' % ' '.join(words))
        must(quorum is not None, 'the witness policy has no quorum')
        must(not logs or ledger['vkey'] in logs, 'the witness policy is about another ledger')
        must(quorum == 'none' or met[quorum], 'the quorum of witnesses is missing')

    def timestamp(self, token, digest):
        """(genTime, accuracy) in milliseconds of a token over a digest."""
        at, accuracy, certificates = parse_token(token)
        roots = self.holding(self.timestamp_roots, at)
        if not roots:
            raise Unpinned('no root is pinned for time-stamps of %d' % at)
        try:
            self.ssl.stamp(token, digest, roots, at)
        except ValueError as e:
            raise Unpinned(str(e)) if re.search('unable to get|self.signed certificate|certificate signature failure', str(e)) else e
        must(accuracy <= 1000, 'its accuracy is worse than one second')
        self.not_revoked(certificates, at + accuracy)
        return at, accuracy


class Unpinned(ValueError):
    """A time-stamp that nobody pinned leads to."""


HASHES = {oid('2.16.840.1.101.3.4.2.%d' % i): (i, size) for i, size in ((1, 32), (2, 48), (3, 64))}
TST_INFO = oid('1.2.840.113549.1.9.16.1.4')


def check_signer(infos, digests):
    """One signer, whose signature algorithm is in its one form and has the one digest algorithm. Returns its issuer and serial number."""
    fields = der(one(infos))
    must([t for t, _, _ in fields] == [2, 0x30, 0x30, 0xa0, 0x30, 4], 'not one signer with signed attributes alone')
    must(fields[0][1] == b'\1' and fields[2][2] == digests, 'a signer of another version or with another digest')
    digest, algorithm = der(fields[2][1])[0][1], fields[4][1]
    must(digest in HASHES, 'a digest other than SHA-256, SHA-384 and SHA-512')
    n, size = HASHES[digest]
    alone = lambda s: b'\x06' + bytes([len(oid(s))]) + oid(s)
    must(algorithm in (alone('1.2.840.10045.4.3.%d' % (n + 1)), *(alone('1.2.840.113549.1.1.%d' % i) + b'\x05\0' for i in (1, n + 10)), alone('1.3.101.112')) or
         algorithm.startswith(alone('1.2.840.113549.1.1.10')), 'a signature algorithm that is not known, or not in its one form')
    attributes = der(fields[3][1])
    must(all(a[2] < b[2] for a, b in zip(attributes, attributes[1:])), 'the signed attributes are not in the order of DER')
    pairs = [(kind[1], one(values[2], 0x31)) for kind, values in (der(a) for _, a, _ in attributes)]
    said = dict(pairs)
    must(len(said) == len(pairs) and all(len(der(v)) == 1 for v in said.values()), 'a signed attribute is there twice, or without one value')
    must(one(said.get(oid('1.2.840.113549.1.9.3'), b''), 6) == TST_INFO, 'signed content of another type')
    must(len(one(said.get(oid('1.2.840.113549.1.9.4'), b''), 4)) == size and oid('1.2.840.113549.1.9.16.2.47') in said, 'a signed attribute is missing')
    return fields[1][1]


def check_accuracy(fields):
    """Microseconds: seconds, thousandths and millionths, each at most once and in this order."""
    tags = [t for t, _, _ in fields]
    must(fields and tags == [t for t in (2, 0x80, 0x81) if t in tags], 'the accuracy')
    total = 0
    for tag, c, _ in fields:
        n = int.from_bytes(c, 'big', signed=True)
        must(0 <= n <= 1 << 31 if tag == 2 else 1 <= n <= 999, 'the accuracy')
        total += n * {2: 1000000, 0x80: 1000, 0x81: 1}[tag]
    return total


def parse_token(token):
    """genTime and accuracy in milliseconds, and the certificates, of an RFC 3161 token."""
    must(len(token) <= 65536, 'too large')
    check_der(token)
    kind, content = der(one(token))
    must(kind[1] == oid('1.2.840.113549.1.7.2'), 'no CMS SignedData')
    parts = der(one(one(content[2], 0xa0)))
    must([t for t, _, _ in parts] in ([2, 0x31, 0x30, 0x31], [2, 0x31, 0x30, 0xa0, 0x31]) and parts[0][1] == b'\3', 'not a SignedData of version 3 without revocation lists')
    info_kind, info = der(parts[2][1])
    must(info_kind[1] == TST_INFO, 'no TSTInfo')
    certificates = [Certificate(whole) for tag, c, _ in parts if tag == 0xa0 for _, _, whole in der(c)]
    signer = check_signer(one(parts[-1][2], 0x31), parts[1][1])
    chain = [c for c in certificates if c.issuer + c.serial == signer][:1]
    must(chain and len(certificates) <= 8, 'the signer is named by another certificate than is there')
    must(not chain[0].ca(), 'a time-stamp by a CA')
    must(all(key_algorithm(c.spki) for c in certificates), 'a key of no size that counts')
    others = [c for c in certificates if c is not chain[0]]
    while others:
        above = [c for c in others if c.subject == chain[-1].issuer][:1]
        must(above, 'a certificate that is not part of the chain, or there twice')
        chain += above
        others = [c for c in others if c is not above[0]]
    at, accuracy = parse_info(one(one(info[2], 0xa0), 4))
    return at, accuracy, certificates


def parse_info(raw):
    """genTime and accuracy in milliseconds of a TSTInfo."""
    check_der(raw)
    fields = der(one(raw))
    must([t for t, _, _ in fields[:5]] == [2, 6, 0x30, 2, 0x18] and fields[0][1] == b'\1', 'not a TSTInfo of version 1')
    imprint = der(fields[2][1])
    must(len(imprint) == 2 and len(imprint[1][1]) == HASHES.get(der(imprint[0][1])[0][1], (0, -1))[1], 'an imprint that is no hash')
    must(int.from_bytes(fields[3][1], 'big', signed=True) in range(1 << 160), 'the serial number')
    m = re.fullmatch(rb'(\d{14})(?:\.(\d{1,9}))?Z', fields[4][1])
    must(m and not (m[2] or b'1').endswith(b'0'), 'genTime')
    t = datetime.datetime.strptime(m[1].decode(), '%Y%m%d%H%M%S').replace(tzinfo=datetime.timezone.utc)
    at = (t - EPOCH) // datetime.timedelta(milliseconds=1) + int((m[2] or b'0').ljust(3, b'0')[:3])
    tags = [t for t, _, _ in fields[5:]]
    must(tags == [t for t in (0x30, 1, 2, 0xa0, 0xa1) if t in tags], 'members that a TSTInfo does not have')
    rest = dict(zip(tags, fields[5:]))
    must(1 not in rest or rest[1][1] == b'\xff', 'ordering that goes without saying')
    must(0xa1 not in rest or all([t for t, _, _ in der(e)] == [6, 4] for _, e, _ in der(rest[0xa1][1])) and rest[0xa1][1], 'extensions that are critical, or none')
    accuracy = check_accuracy(der(rest[0x30][1])) if 0x30 in rest else 0
    if accuracy == 0 or m[2] is None:
        accuracy = max(accuracy, 1000000)
    return at, -(-accuracy // 1000)


# --- Notes, proofs, trees -----------------------------------------------------------------------------------------------------------------

def verifier_key(vkey, kind=None):
    """(name, key hash, algorithm, SPKI) of a verifier key of a signed note; kind 4 is a witness's."""
    who, key_hash, encoded = vkey.split('+', 2)
    raw = unb64(encoded)
    must(who and raw and (raw[0] == 4) == (kind == 4) and raw[0] in (1, 2, 4), 'verifier key %.80r' % vkey)
    spki = raw[1:] if raw[0] == 2 else bytes.fromhex('302a300506032b6570032100') + raw[1:]
    algorithm = key_algorithm(spki)
    must(algorithm and algorithm.startswith('ecdsa') if raw[0] == 2 else len(raw) == 33, 'verifier key %.80r' % vkey)
    digest = sha256(spki) if raw[0] == 2 else sha256(who.encode() + b'\n' + raw)
    must(digest[:4].hex() == key_hash, 'a verifier key with another hash')
    return who, digest[:4], 'ecdsa-p256-sha256' if raw[0] == 2 else 'ed25519', spki


def parse_note(note):
    """(origin, size, root, text, lines) of a signed checkpoint. Nothing is verified."""
    must(len(note) <= 65536 and note.endswith(b'\n') and b'\n\n' in note, 'not a signed note')
    body, _, signatures = note.rpartition(b'\n\n')
    body += b'\n'
    origin, size, root, end = body.decode('utf-8').split('\n')
    must(end == '' and origin and not re.search(r'[\s+]', origin) and len(origin.encode()) <= 256, 'not a checkpoint of three lines')
    DECIMAL(size)
    must(int(size) < 1 << 62 and len(unb64(root)) == 32, 'not a checkpoint')
    lines = []
    for l in signatures.decode('utf-8').split('\n')[:-1]:
        m = re.fullmatch(r'— ([^\s+]+) (\S+)', l)
        must(m and len(unb64(m[2])) >= 5 and len(lines) < 100, 'a signature line that is not well-formed')
        lines.append((m[1], unb64(m[2])))
    return origin, int(size), unb64(root), body, lines


def leaf_hash(entry):
    return sha256(b'\0' + entry)


def node_hash(a, b):
    return sha256(b'\1' + a + b)


def check_inclusion(leaf, index, size, path, root):
    """RFC 9162, section 2.1.3.2."""
    must(index < size, 'no such entry')
    fn, sn, r = index, size - 1, leaf
    for p in path:
        must(sn > 0, 'the proof is too long')
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = node_hash(r, p)
        fn, sn = fn >> 1, sn >> 1
    must(sn == 0 and r == root, 'the entry %d is not in the tree of the size %d' % (index, size))


def check_consistency(first, second, first_root, second_root, path):
    """RFC 9162, section 2.1.4.2."""
    must(first <= second, 'the later tree is smaller')
    if first in (0, second):
        must(not path and (first_root == second_root if first else first_root == sha256(b'')), 'two roots for one size')
        return
    path = list(path) if first & (first - 1) else [first_root] + list(path)
    must(path, 'no consistency proof')
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        must(sn > 0, 'the consistency proof is too long')
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, c)
        fn, sn = fn >> 1, sn >> 1
    must(sn == 0 and fr == first_root and sr == second_root, 'the tree of the size %d does not extend that of %d' % (second, first))


ENTRY_TYPES = frozenset('''ledger.created key.created certificate.issued signer.invited signer.enrolled signer.credential signer.suspended
    signer.reinstated signer.revoked signer.renewed service.enrolled service.revoked session.opened session.closed authentication.failed
    signer.locked signer.unlocked access.denied record.created record.decided signature.prepared signature.attempted signature.created
    signature.abandoned record.superseded source.erased timestamp.refused ledger.restored service.renewed key.rotated key.disabled key.enabled
    key.destruction.requested key.destruction.withdrawn key.destruction.confirmed key.destroyed index.committed checkpoint.timestamped
    ledger.scrubbed ledger.archived backup.created act.proposed act.confirmed act.withdrawn accountability.signed signer.changed credential.used
    passkey.registered passkey.vouched passkey.bound passkey.revoked role.assigned role.withdrawn group.changed designation.changed
    training.attested training.withdrawn rights.reviewed service.changed source.locked source.unlocked alert.raised alert.delivered
    alert.acknowledged alert.escalated clock.changed crl.issued certificate.lapsing
    credential.tested credential.untested'''.split())


def short(v):
    must(isinstance(v, str) and len(v.encode()) <= 256, 'a text that is too long')


ENTRY = obj({
    'actor': obj({'id': lambda v: (short(v), must(v, 'no id')), 'kind': one_of('person', 'service', 'system'), 'method': short,
                  'session': short, 'source': HEX_OR_NONE}),
    'body': lambda v: must(isinstance(v, dict), 'not an object'), 'index': DECIMAL, 'prev': HEX, 'request': HEX_OR_NONE, 'time': instant,
    'type': one_of(*ENTRY_TYPES), 'v': lambda v: must(v == 1 and v is not True, 'version')})


def parse_entry(raw):
    must(len(raw) <= 65535, 'an entry of %d bytes' % len(raw))
    e = parse_canonical(raw)
    ENTRY(e)
    must(e['index'] != '0' or e['prev'] == '0' * 64, 'something before the first entry')
    return e


# --- Bundle -------------------------------------------------------------------------------------------------------------------------------

def clean_path(p):
    must(isinstance(p, str) and 0 < len(p.encode()) <= 1024 and unicodedata.is_normalized('NFC', p), 'the path %.80r' % (p,))
    must(not p.startswith('/') and not re.match('[A-Za-z]:/', p) and '\\' not in p, 'the path %.80r is absolute or has a backslash' % p)
    must(all(unicodedata.category(c) not in ('Cc', 'Cn', 'Cs', 'Zl', 'Zp') and c not in BIDI for c in p), 'the path %.80r has characters that cannot be seen' % p)
    must(all(s not in ('', '.', '..') for s in p.split('/')), 'the path %.80r is not plain' % p)
    return p


def fold(p):
    nfd = lambda s: unicodedata.normalize('NFD', s)
    return nfd(nfd(p).casefold())


def excluded_by(excluded, p):
    return any(p == x or x.endswith('/') and (p + '/').startswith(x) for x in excluded)


def check_document(d):
    obj({'excluded': seq(lambda x: clean_path(x[:-1] if isinstance(x, str) and x.endswith('/') else x)), 'format': exactly('signet-bundle/v1'),
         'files': seq(obj({'path': clean_path, 'sha256': HEX, 'size': num()}), 250000)})(d)
    paths = [f['path'].encode() for f in d['files']]
    must(all(a < b for a, b in zip(paths, paths[1:])), 'the files are not sorted')
    must(d['excluded'] == sorted(set(d['excluded']), key=lambda x: x.encode()), 'the exclusions are not sorted')
    must(sum(f['size'] for f in d['files']) < 2 ** 53, 'files that are too large together')
    check_spelling((f['path'] for f in d['files']), d['excluded'])


def check_spelling(paths, excluded):
    """No path is that of another one, or excluded, in other letters."""
    spelled, folded = {}, [fold(x) for x in excluded]
    for p in paths:
        must(not excluded_by(folded, fold(p)), '%r is listed and excluded' % p)
        parts = p.split('/')
        for n in range(1, len(parts) + 1):
            entry = '/'.join(parts[:n]), n == len(parts)
            must(spelled.setdefault(fold(entry[0]), entry) == entry, '%r and another path differ in case alone' % p)


def read_bundle(path, excluded):
    """path → (sha256, size) of what a bundle holds."""
    out, linked = {}, {}

    def add(p, f):
        p = unicodedata.normalize('NFC', p[2:] if p.startswith('./') else p)
        if not excluded_by(excluded, p):
            h, size = hashlib.sha256(), 0
            for block in iter(lambda: f.read(1 << 20), b''):
                h.update(block)
                size += len(block)
            must(clean_path(p) not in out, '%r is there twice' % p)
            out[p] = h.hexdigest(), size

    def walk(folder, prefix):
        for e in sorted(os.scandir(folder), key=lambda e: e.name):
            p = unicodedata.normalize('NFC', prefix + e.name)
            if excluded_by(excluded, p):
                continue
            mode = e.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                walk(e.path, p + '/')
            else:
                must(stat.S_ISREG(mode), '%r is neither a file nor a folder' % p)
                with open(e.path, 'rb') as f:
                    add(p, f)
    if os.path.isdir(path):
        walk(path, '')
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as z:
            for i in z.infolist():
                kind = i.external_attr >> 28
                must(kind in (0, 4, 8), '%r is neither a file nor a folder' % i.filename)
                if not i.is_dir():
                    with z.open(i) as f:
                        add(i.filename, f)
    else:
        with tarfile.open(path, 'r:*') as t:
            for i in t:
                must(i.isreg() or i.isdir() or i.islnk(), '%r is neither a file nor a folder' % i.name)
                if not i.isdir():
                    add(i.name, t.extractfile(i))
    check_spelling(out, excluded)
    return out


# --- Manifest -----------------------------------------------------------------------------------------------------------------------------

COVERS = lambda have, want: (have == 'service') == (want == 'service') and set(want.split('+')) <= set(have.split('+'))


class Manifest:
    """Judges a signature manifest: content, then each signature, then what only all together show."""

    def __init__(self, raw, trust, faults, ssl):
        self.trust, self.faults, self.ssl, self.proved, self.roots, self.origin = trust, faults, ssl, [], {}, None
        with faults.check(MALFORMED, 'manifest'):
            must(len(raw) <= 64 << 20, 'too large')
            self.m = m = parse_json(raw)
            must((json.dumps(ordered(m), ensure_ascii=False, indent=2) + '\n').encode() == raw, 'not in the file form')
            MANIFEST(m)
            check_record(m['record'])
            for s in m['signatures']:
                check_statement(s['statement'])
                must(set(s['authorization']) == {'kind', *(ASSERTION if 'passkey' in s['authorization']['kind'] else ())}, 'a passkey, and nothing else, has an assertion')
            must(len(canon(m['record'])) <= 32 << 20, 'too large')
            self.record, self.bundle = m['record'], m['bundle']
            return
        raise Stop

    def judge(self, bundle_path):
        self.content(bundle_path)
        subjects = [{'digest': {'sha256': hexsum(canon(self.record))}, 'name': '%s-%s#record' % (self.record['name'], self.record['version'])}]
        if self.record['bundle']:
            subjects.insert(0, {'digest': self.record['bundle']['digest'], 'name': subjects[0]['name'][:-7]})
        self.support = self.supporting()
        self.passkeys()
        self.signatures, self.left_out = [], 0
        for i, s in enumerate(self.m['signatures']):
            s = dict(s, where='signatures[%d]' % i, faults=Faults(), at=None, accuracy=0, e=None, canonical=canon(s['statement']), p=s['statement']['predicate'])
            placed = None
            with s['faults'].check(LEDGER, 'ledger'):
                placed = self.prove(s['ledger']['entry'], s['ledger']['proof'])
            if placed and self.trust.later(placed[0]['time']):
                self.left_out += 1
                continue
            self.signatures.append(s)
            with s['faults'].check(SIGNATURE, 'statement'):
                must(s['statement']['subject'] == subjects and s['p']['event'] == self.record['event']['id'], 'it is about something else than the record')
            with s['faults'].check(TIME, 'timestamps'):
                self.time(s)
            self.value(s)
            if placed:
                with s['faults'].check(LEDGER, 'ledger'):
                    self.ledger(s, *placed)
            with s['faults'].check(UNTRUSTED, 'authorization'):
                self.authorization(s)
            self.enrolment(s)
        self.order()
        self.policy()
        for s in self.signatures:
            self.faults.extend((code, '%s.%s' % (s['where'], where), what) for code, where, what in s['faults'])

    def content(self, path):
        ref, d = self.record['bundle'], self.bundle
        with self.faults.check(SIGNATURE, 'bundle'):
            must(bool(ref) == bool(d), 'of record and manifest only one has a bundle')
        if not ref or not d:
            if path:
                raise Usage('the record is about no bundle, but one was given')
            return
        if not path:
            raise Usage('the record is about a bundle: name it with --bundle')
        with self.faults.check(SIGNATURE, 'bundle'):
            must((hexsum(canon(d)), len(d['files']), sum(f['size'] for f in d['files'])) == (ref['digest']['sha256'], ref['files'], ref['bytes']),
                 'the document is not the one that the record names')
            must(set(ref['roles']) <= {f['path'] for f in d['files']}, 'a role for a file that is not listed')
        for x in d['excluded']:
            if x not in self.record['policy']['resolved']['exclusions']:
                self.faults.add(CONTENT, x, 'left out, and the policy does not allow that')
        with self.faults.check(MALFORMED, 'bundle'):
            found, listed = read_bundle(path, d['excluded']), {f['path']: (f['sha256'], f['size']) for f in d['files']}
            for p in sorted(set(found) | set(listed)):
                if found.get(p) != listed.get(p):
                    self.faults.add(CONTENT, p, 'missing' if p not in found else 'extra' if p not in listed else 'changed')

    def prove(self, entry, proof):
        """The entry, and the checkpoint that proves it."""
        raw = unb64(entry)
        e = parse_entry(raw)
        head, _, note = proof.partition('\n\n')
        lines = head.split('\n')
        must(lines[0] == 'c2sp.org/tlog-proof@v1' and lines[1] == 'index ' + e['index'], 'not a proof of this entry')
        path = [unb64(l) for l in lines[2:]]
        must(len(path) <= 63 and all(len(p) == 32 for p in path), 'not a proof')
        origin, size, root = self.trust.checkpoint(note.encode())
        e['index'], e['leaf'] = int(e['index']), leaf_hash(raw)
        check_inclusion(e['leaf'], e['index'], size, path, root)
        must(self.origin in (None, origin), 'entries of two ledgers')
        self.origin = origin
        self.know(size, root)
        self.proved.append(e)
        return e, size, root

    def know(self, size, root):
        must(self.roots.setdefault(size, root) == root, 'the ledger has two roots at the size %d: it was forked' % size)

    def supporting(self):
        out, seen = [], set()
        for i, s in enumerate(self.m['support']):
            with self.faults.check(LEDGER, 'support[%d]' % i):
                must(s['entry'] not in seen, 'it is there twice')
                seen.add(s['entry'])
                e, _, _ = self.prove(s['entry'], s['proof'])
                if self.trust.later(e['time']):
                    continue
                if e['type'] in BODIES:
                    BODIES[e['type']](e['body'])
                elif e['type'] == 'passkey.bound':
                    check_bound(e['body'])
                elif e['type'] == 'passkey.revoked':
                    UNBOUND(e['body'])
                elif e['type'] in RIGHTS:
                    RIGHTS[e['type']](e['body'])
                out.append(e)
        return out

    def time(self, s):
        digest = sha256(unb64(s['signature']['value']))
        stamps = [self.trust.timestamp(unb64(t), digest) for t in s['timestamps']]
        for at, accuracy in stamps:
            must(instant(s['p']['preparedAt']) - accuracy <= at <= instant(s['p']['expires']) + accuracy, 'the time-stamp lies outside of the window')
        s['at'], s['accuracy'] = stamps[0]

    def value(self, s):
        """The signature, and whose certificate it is."""
        chain = []
        with s['faults'].check(UNTRUSTED, 'certificates'):
            read = [Certificate(unb64(c)) for c in s['certificates']]
            for c in read[:1]:
                must(key_algorithm(c.spki) is None or self.ssl.run('x509', '-in', 'leaf', '-noout', '-pubkey', leaf=pem(c.raw))[0], 'a certificate that cannot be read')
            chain = read
        if not chain:
            return
        leaf, algorithm, p = chain[0], s['signature']['algorithm'], s['p']
        with s['faults'].check(SIGNATURE, 'signature'):
            must(s['signature']['keyId'] == leaf.key_id, 'the key id is that of another key')
            must(key_algorithm(leaf.spki) == algorithm, 'the algorithm does not fit the key')
            pae = b'DSSEv1 28 application/vnd.in-toto+json %d ' % len(s['canonical']) + s['canonical']
            must(self.ssl.signed(leaf.spki, algorithm, pae, unb64(s['signature']['value'])), 'it was not made by this key over this statement')
        with s['faults'].check(UNTRUSTED, 'certificates'):
            must(not leaf.ca(), 'the certificate of a CA')
            must(leaf.extensions.get(KEY_USAGE) == b'\x03\x02\x07\x80' and KEY_USAGE in leaf.critical, 'another key usage than digitalSignature, critical')
            must(leaf.usages() == sorted([CODE, DOCUMENT]), 'other extended key usages than codeSigning and documentSigning')
            kind = 'services' if p['signer']['id'].startswith('svc_') else 'signers'
            names = der(one(leaf.extensions.get(ALT_NAME, b'')))
            must([(t, c) for t, c, _ in names] == [(0x86, ('%s/%s/%s' % (self.trust.issuer, kind, p['signer']['id'])).encode())], 'a certificate of somebody else')
            must(leaf.values('2.5.4.3') == [p['signer']['name']], 'a certificate with another name')
            must(leaf.values('2.5.4.10') == [x for x in [p['signer']['organisation']] if x], 'a certificate of another organisation')
        with s['faults'].check(UNTRUSTED, 'certificates'):
            must(len(chain) > 1 and chain[-1].raw in self.trust.holding(self.trust.signer_roots, s['at']), 'no pinned root leads to the signer')
            must(all(key_algorithm(c.spki) for c in chain), 'a key of a kind or size that does not count')
            self.ssl.chain(chain, instant(p['preparedAt']) if s['at'] is None else s['at'])
            self.trust.not_revoked(chain, instant(p['expires']) if s['at'] is None else s['at'] + s['accuracy'])

    def authorization(self, s):
        a, p = s['authorization'], s['p']
        must(COVERS(a['kind'], p['requires']), 'the signer proved themselves with %s, and %s was demanded' % (a['kind'], p['requires']))
        if 'passkey' not in a['kind']:
            return
        before = s['e']['index'] if s['e'] else 1 << 62
        at = instant(p['expires']) if s['at'] is None else s['at'] + s['accuracy']
        held = self.holder(p['signer']['id'], unurl64(a['credentialId']), before, at)
        must(held['name'] == p['signer']['name'], 'the passkey is bound under another name')
        self.assertion(held, sha256(b'DSSEv1 28 application/vnd.in-toto+json %d ' % len(s['canonical']) + s['canonical']), a)
        s['passkey'] = hexsum(held['spki'])

    def passkeys(self):
        """Which bindings hold, in the order of the ledger: each leans on earlier ones alone."""
        self.bound = sorted((e for e in self.support if e['type'] == 'passkey.bound'), key=lambda e: e['index'])
        for e in self.bound:
            try:
                self.vouched(e)
                e['wrong'] = None
            except Exception as x:
                e['wrong'] = 'entry %d: %s' % (e['index'], x)

    def vouched(self, e):
        b, others = e['body']['binding'], 0
        must(b['ledger'] == self.origin, 'it binds a passkey in another ledger')
        payload = canon(b)
        challenge = sha256(b'DSSEv1 46 application/vnd.signet.passkey-binding.v1+json %d ' % len(payload) + payload)
        for v in e['body']['vouchers']:
            must(not any(o['type'] in ENDED and o['body']['id'] == v['signer'] and o['index'] < e['index'] for o in self.support),
                 '%s, who vouches for it, was revoked' % v['signer'])
            held = self.holder(v['signer'], unurl64(v['credentialId']), e['index'], instant(e['time']))
            self.assertion(held, challenge, v)
            if v['signer'] == b['signer']:
                if held['name'] == b['name'] and (held['vouches'] or not b['vouches']):
                    return
            else:
                must(held['vouches'], 'the passkey of %s may not vouch for others' % v['signer'])
                others += 1
        must(others == 2, '%d of 2 other people vouch for the passkey of %s, and no earlier one of theirs does' % (others, b['signer']))

    def holder(self, signer, credential, before, at):
        """A signer's passkey as it stood before an entry."""
        why = 'the trust file does not pin the passkey %s of %s, and no proved entry before the entry %d binds it' % (credential.hex()[:16], signer, before)
        found = [(p, None, -1, p['name'], True, None) for p in self.trust.passkeys] + \
                [(e['body']['binding'], e['wrong'], e['index'], e['body']['binding']['name'], e['body']['binding']['vouches'],
                  e['body']['binding']['backupEligible']) for e in self.bound if e['index'] < before]
        for p, wrong, index, who, vouches, backup in found:
            if p['signer'] != signer or unurl64(p['credentialId']) != credential:
                continue
            spki = unb64(p['spki'])
            why = wrong
            for o in self.support:
                if o['type'] == 'passkey.revoked' and o['index'] < before and (o['body']['signer'], o['body']['keyId']) == (signer, hexsum(spki)):
                    why = why or 'the passkey of %s was revoked by the entry %d' % (signer, o['index'])
            for r in self.trust.revoked:
                if r['keyId'] == hexsum(spki) and at >= instant(r['from']):
                    why = why or 'the passkey of %s no longer counts from %s' % (signer, r['from'])
            if not why:
                return {'credential': credential, 'spki': spki, 'rpId': p['rpId'], 'origins': p['origins'], 'name': who, 'vouches': vouches, 'backup': backup}
        raise ValueError(why)

    def assertion(self, held, challenge, a):
        """WebAuthn Level 3, section 7.2, without any choice."""
        data, client, signature = (unurl64(a[m]) for m in ('authenticatorData', 'clientDataJSON', 'signature'))
        must(len(data) == 37 and len(client) <= 4096 and len(signature) <= 1024 and len(held['credential']) <= 1023, 'an assertion of another size')
        c = parse_json(client)
        must(isinstance(c, dict) and c.get('type') == 'webauthn.get', 'no assertion')
        must(c.get('challenge') == base64.urlsafe_b64encode(challenge).rstrip(b'=').decode(), 'the passkey has signed something else')
        must(isinstance(c.get('origin'), str) and c['origin'] in held['origins'], 'it was made at %.80r' % (c.get('origin'),))
        must(c.get('crossOrigin', False) is False and 'topOrigin' not in c, 'it was made within a page of somebody else')
        flags = data[32]
        must(data[:32] == sha256(held['rpId'].encode()), 'it was made for another relying party')
        must(flags & 0x05 == 0x05, 'no user was present, or none was verified')
        must(not flags & 0xe2 and flags & 0x18 != 0x10, 'flags %#02x' % flags)
        must(held['backup'] is None or held['backup'] == bool(flags & 8), 'whether it may be copied is not what its binding says')
        must(self.ssl.signed(held['spki'], passkey_algorithm(held['spki']), data + sha256(client), signature), 'the signature is not of this passkey')

    def ledger(self, s, e, size, root):
        s['e'], p = e, s['p']
        must(e['type'] == 'signature.created', 'it is of the type ' + e['type'])
        must(e['body'] == {
            'authorization': hexsum(canon(s['authorization'])), 'bundle': (s['statement']['subject'][:-1] or [{'digest': {'sha256': ''}}])[0]['digest']['sha256'],
            'certificates': [hexsum(unb64(c)) for c in s['certificates']], 'event': p['event'], 'keyId': s['signature']['keyId'],
            'record': s['statement']['subject'][-1]['digest']['sha256'], 'signature': hexsum(unb64(s['signature']['value'])), 'signer': p['signer']['id'],
            'statement': hexsum(s['canonical']), 'timestamps': [hexsum(unb64(t)) for t in s['timestamps']]}, 'it records something else than this signature')
        if s['at'] is not None:
            must(s['at'] - s['accuracy'] <= instant(e['time']) <= s['at'] + 600000, 'it was not written within ten minutes of the signature')
        head = p['ledger']
        must(head['origin'] == self.origin and int(head['size']) <= e['index'], 'the signer was shown another ledger, or a later one')
        check_consistency(int(head['size']), size, bytes.fromhex(head['root']), root, [unb64(h) for h in s['ledger']['consistency']])
        self.know(int(head['size']), bytes.fromhex(head['root']))

    def enrolment(self, s):
        signer, key = s['p']['signer'], s['signature']['keyId']
        bound = [e for e in self.support if e['type'] in ('signer.enrolled', 'signer.renewed', 'service.enrolled', 'service.renewed')]
        mine = [e for e in bound if e['leaf'].hex() == signer['enrolment']]
        if not mine:
            s['faults'].add(LEDGER, 'enrolment', 'the entry that it names is not among the proved ones')
            return
        e, b = mine[0], mine[0]['body']
        with s['faults'].check(UNTRUSTED, 'enrolment'):
            must((b['id'], b['name'], b.get('title', ''), b['organisation']) ==
                 (signer['id'], signer['name'], signer['title'], signer['organisation']), 'it is about somebody else')
            self.roles(s, b['roles'])
            must((b['keyId'], b['certificate']) == (key, hexsum(unb64(s['certificates'][0]))), 'it binds another key or certificate')
        if not s['e']:
            return
        with s['faults'].check(LEDGER, 'enrolment'):
            must(e['index'] < s['e']['index'], 'the signer was enrolled after the signature')
        with s['faults'].check(UNTRUSTED, 'enrolment'):
            must(not any(o['body']['id'] == signer['id'] and e['index'] < o['index'] < s['e']['index'] for o in bound), 'it had been replaced')
            must(not any(o['type'] in ENDED and o['body']['id'] == signer['id'] and o['body']['keyId'] in ('', key) and
                         o['index'] < s['e']['index'] for o in self.support), 'the key had been revoked')

    def roles(self, s, enrolled):
        """Each role of the statement was given, and each role of the enrolment that it leaves out was taken away, before the signature."""
        signer, at = s['p']['signer'], instant(s['p']['preparedAt'])
        before = lambda kind: [e['body'] for e in self.support if e['type'] == kind and s['e'] and e['index'] < s['e']['index']]
        taken = {(w['id'], w['subject'], w['role']) for w in before('role.withdrawn')}
        groups = self.groups(s)
        kept = {r for r in enrolled if ('', signer['id'], r) not in taken}
        given = {g['role'] for g in before('role.assigned')
                 if instant(g['start']) <= at and (not instant(g['end']) or at < instant(g['end']))
                 and (g['id'], g['subject'], g['role']) not in taken
                 and (g['subject'] == signer['id'] or signer['id'] in groups.get(g['subject'], ()))}
        must(kept <= set(signer['roles']) <= kept | given, 'nothing accounts for the roles %r of the statement' % signer['roles'])

    def groups(self, s):
        """The members of each group before the signature."""
        changes = [e for e in self.support if e['type'] == 'group.changed' and s['e'] and e['index'] < s['e']['index']]
        return {e['body']['id']: e['body']['members'] for e in sorted(changes, key=lambda e: e['index'])}

    def order(self):
        """The signatures stand in the order of the ledger, each vouches for all before it, and all entries agree."""
        last = -1
        for s in self.signatures:
            if not s['e']:
                continue
            with s['faults'].check(LEDGER, 'ledger'):
                must(s['e']['index'] > last, 'the signatures do not stand in the order of the ledger')
            last = max(last, s['e']['index'])
            before = [o for o in self.signatures if o['e'] and o['e']['index'] < int(s['p']['ledger']['size'])]
            newest = max(before, key=lambda o: o['e']['index'], default=None)
            with s['faults'].check(LEDGER, 'previous'):
                must(s['p']['previous'] == (hexsum(newest['canonical']) if newest else ''), 'a signature is missing, moved or added before it')
        proved = sorted(self.proved, key=lambda e: e['index'])
        for a, b in zip(proved, proved[1:]):
            with self.faults.check(LEDGER, 'entry %d' % b['index']):
                must(a['index'] != b['index'] or a['leaf'] == b['leaf'], 'the ledger has two of them: it was forked')
                must(a['index'] + 1 != b['index'] or b['prev'] == a['leaf'].hex(), 'it does not name the one before it')
                must(instant(a['time']) <= instant(b['time']), 'time went back')

    def policy(self):
        policy = self.record['policy']
        want = policy['resolved']
        fault = lambda what: self.faults.add(POLICY, 'policy', what)
        admitted = [p for p in self.trust.policies if p['digest'] == policy['template']['digest']['sha256'] and COVERS(want['requires'], p['requires'])]
        if self.trust.policies and not admitted:
            fault('the trust file does not admit the template')
        owner = {}
        for s in self.signatures:
            for key in (s['signature']['keyId'], s.get('passkey')):
                if key and owner.setdefault(key, s['p']['signer']['id']) != s['p']['signer']['id']:
                    s['faults'].add(UNTRUSTED, 'signature', 'one key under two ids')
        approvers, excluded = {a['id'] for a in want['approvers']}, set(want['excludedSigners'])
        stands = lambda s: approvers & ({s['p']['signer']['id']} | {'role:' + r for r in s['p']['signer']['roles']}
                                        | {g for g, members in self.groups(s).items() if s['p']['signer']['id'] in members})
        votes, attempts = {}, {}
        for s in self.signatures:
            p, who = s['p'], s['p']['signer']['id']
            if s['faults'] or not who.startswith('sgn_') or p['decision'] == 'seal' or who in excluded or not COVERS(s['authorization']['kind'], want['requires']):
                continue
            if p['decision'] == 'withdraw':
                votes[who] = {}
                continue
            if not stands(s):
                continue
            activity, attempt = p['activity']['id'], int(p['activity']['attempt'])
            attempts[activity] = max(attempts.get(activity, 0), attempt)
            if attempt >= votes.setdefault(who, {}).get(activity, (0, ''))[0]:
                votes[who][activity] = attempt, p['decision']
        counted = [{a: d for a, (n, d) in v.items() if n == attempts[a]} for v in votes.values()]
        rejections = sum('reject' in v.values() for v in counted)
        approvals = sum(v.get('') == 'approve' and 'reject' not in v.values() for v in counted)
        if approvals < want['k']:
            fault('%d of %d needed approvals' % (approvals, want['k']))
        if want['anyRejectionVetoes'] and rejections:
            fault('rejected by %d' % rejections)
        self.closing(fault)

    def closing(self, fault):
        """The last signature closes the record over exactly the statements before it."""
        newest = None
        for i, s in enumerate(self.signatures):
            p = s['p']
            if p['meaning']['id'] != 'closing':
                continue
            statements = [hexsum(o['canonical']) for o in self.signatures[:i]]
            inputs = {x['name']: x['value'] for x in p['inputs']}
            if p['reason'] or p['zone'] != {'name': 'UTC', 'offset': '+00:00'} or list(inputs) != ['outcome', 'statements'] or inputs['statements'] != statements:
                s['faults'].add(POLICY, 'statement', 'the closing seal does not close what stands before it')
            elif not s['faults']:
                newest = s, inputs['outcome'], i
        if not newest or newest[2] != len(self.signatures) - 1:
            return fault('no closing seal over all signatures')
        if newest[1] != 'approved':
            fault('the record was closed as %.80r' % (newest[1],))
        digest = hexsum(canon(self.record))
        if any(e['type'] == 'record.superseded' and e['body']['record'] == digest and e['index'] < newest[0]['e']['index'] for e in self.support):
            fault('the record was superseded before it was decided')


# --- Index --------------------------------------------------------------------------------------------------------------------------------

SUBJECTS = frozenset('bundle by destruction id keyId preparation record requester signer statement subject successor'.split())


def index_keys(e):
    """The keys of an entry in the index."""
    keys = {'type:' + e['type'], 'actor:' + e['actor']['id'], 'session:' + e['actor']['session']}
    rest = [e['body']]
    while rest:
        v = rest.pop()
        for k, x in v.items() if isinstance(v, dict) else ((None, x) for x in v):
            if isinstance(x, (dict, list)):
                rest.append(x)
            elif isinstance(x, str) and k in ('event', 'session'):
                keys.add('%s:%s' % (k, x))
            elif isinstance(x, str) and k in SUBJECTS:
                keys.add('subject:' + x)
    return {sha256(k.encode()) for k in keys if 0 < len(k.split(':', 1)[1].encode()) <= 256}


class Index:
    """The map from keys to lists of entries, as a binary tree: a node is [key, count, list] or [left, right, hash or None]."""

    def __init__(self):
        self.root, self.keys = None, 0

    def add(self, index, leaf, keys):
        for key in keys:
            self.root = self.put(self.root, key, 0, struct.pack('>Q', index) + leaf)

    def put(self, node, key, depth, entry):
        if node is None:
            self.keys += 1
            return ('leaf', key, 1, sha256(b'\2' + bytes(32) + entry))
        bit = lambda k: k[depth // 8] >> (7 - depth % 8) & 1
        if node[0] == 'leaf':
            if node[1] == key:
                return ('leaf', key, node[2] + 1, sha256(b'\2' + node[3] + entry))
            node = [None, None, None][:bit(node[1])] + [node] + [None] * (2 - bit(node[1]))
        side = bit(key)
        node[side], node[2] = self.put(node[side], key, depth + 1, entry), None
        return node

    def hash(self, node):
        if node is None:
            return bytes(32)
        if node[0] == 'leaf':
            return sha256(b'\0' + node[1] + struct.pack('>Q', node[2]) + node[3])
        if node[2] is None:
            node[2] = sha256(b'\1' + self.hash(node[0]) + self.hash(node[1]))
        return node[2]


# --- Export -------------------------------------------------------------------------------------------------------------------------------

OWED = {'key.created': ['keyId'], 'certificate.issued': ['certificate'], 'signer.enrolled': ['certificate'], 'service.enrolled': ['certificate'],
        'record.created': ['record'], 'signature.prepared': ['statement'], 'signature.created': ['statement', 'signature', 'authorization', 'timestamps'],
        'checkpoint.timestamped': ['checkpoint', 'timestamps']}
LAG = 1 << 16


def digests(v):
    """Every string of 64 hex digits in a value, names of members excepted."""
    if isinstance(v, str):
        return {v} if re.fullmatch('[0-9a-f]{64}', v) else set()
    return set().union(*map(digests, v.values() if isinstance(v, dict) else v)) if isinstance(v, (dict, list)) else set()


def subtrees(start, end):
    """The levels of the largest complete subtrees that cover the leaves [start, end)."""
    out = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        out.append(level)
        start += 1 << level
    return out


class Tree:
    """The right edge of an RFC 6962 tree."""

    def __init__(self, size=0, nodes=()):
        self.size, self.nodes = size, list(nodes)

    def add(self, level, h):
        n = self.size >> level
        while n & 1:
            h, n = node_hash(self.nodes.pop(), h), n >> 1
        self.nodes.append(h)
        self.size += 1 << level

    def root(self):
        h = self.nodes[-1]
        for n in self.nodes[-2::-1]:
            h = node_hash(n, h)
        return h


class Archive:
    """Reads the members of an export, whose headers have one form."""

    def __init__(self, f):
        self.f, self.name, self.size, self.filling = f, '', 0, 0

    def read(self, n):
        b = self.f.read(n)
        must(len(b) == n, 'truncated')
        return b

    def next(self):
        must(self.read(-self.size % 512) == bytes(-self.size % 512), 'filled up with something else than zeros')
        h = self.read(512)
        self.name, self.size = '', 0
        if h[0] == 0:
            must(h + self.read(512) == bytes(1024) and not self.f.read(1), 'the archive does not end in two blocks of zeros')
            return
        name, size = h[:100].rstrip(b'\0'), int(h[124:135], 8)
        want = name.ljust(100, b'\0') + b'0000644\0' + b'0000000\0' * 2 + b'%011o\0' % size + b'%011o\0' % 1767225600 + b' ' * 8 + b'0' + bytes(100) + \
            b'ustar\x0000' + bytes(64) + b'0000000\0' * 2 + bytes(167)
        must(h == want[:148] + b'%06o\0 ' % sum(want) + want[156:], 'the header of %.100r is not in its one form' % name)
        self.name, self.size = name.decode('utf-8'), size

    def content(self, limit):
        must(self.size <= limit, '%.100r is too large' % self.name)
        return self.read(self.size)


class Export:
    """Judges an export of a ledger."""

    def __init__(self, f, trust, faults):
        self.a, self.trust, self.faults, self.sums, self.index, self.bracketed = Archive(f), trust, faults, '', None, 0
        self.prev, self.last, self.newest, self.covered, self.waiting = None, None, None, 0, collections.deque()

    def member(self, name, limit, go=True):
        if go:
            self.a.next()
        must(self.a.name == name, '%r stands where %r belongs' % (self.a.name, name))
        b = self.a.content(limit)
        self.sums += '%s  %s\n' % (hexsum(b), name)
        return b

    def judge(self):
        with self.faults.check(MALFORMED, 'export'):
            h = parse_canonical(self.member('export.json', 4096))
            obj({'end': DECIMAL, 'format': exactly('signet-export/v1'), 'origin': lambda v: must(isinstance(v, str), 'no text'), 'size': DECIMAL, 'start': DECIMAL})(h)
            self.start, self.end, size = int(h['start']), int(h['end']), int(h['size'])
            must(self.start < self.end <= size < 1 << 62, 'start, end and size')
            self.head(self.member('checkpoint', 65536), h['origin'], size)
            beside = parse_canonical(self.member('proof.json', 16384))
            obj({'left': seq(HEX), 'right': seq(HEX)})(beside)
            levels = subtrees(0, self.start), subtrees(self.end, size)
            must((len(beside['left']), len(beside['right'])) == (len(levels[0]), len(levels[1])), 'hashes that do not belong there')
            self.tree = Tree()
            for level, x in zip(levels[0], beside['left']):
                self.tree.add(level, bytes.fromhex(x))
            self.then, self.recent, self.index = Tree(self.start, self.tree.nodes), [], Index() if self.start == 0 else None
            first = self.start
            self.a.next()
            while first < self.end:
                first = self.chunk(first, min(first - first % 256 + 256, self.end))
            for level, x in zip(levels[1], beside['right']):
                self.tree.add(level, bytes.fromhex(x))
            if self.checkpoint and self.tree.root() != self.checkpoint[2]:
                self.faults.add(LEDGER, 'checkpoint', 'the entries give another root')
            want = self.sums
            if self.member('SHA256SUMS', len(want) * 2 + 65536, False) != want.encode():
                self.faults.add(CONTENT, 'SHA256SUMS', 'it does not name the files that are there')
            self.a.next()
            must(self.a.name == '', '%r stands after the end' % self.a.name)

    def head(self, note, origin, size):
        self.checkpoint = None
        with self.faults.check(LEDGER, 'checkpoint'):
            self.checkpoint = parse_note(note)[:3]
            must(self.checkpoint[:2] == (origin, size), 'it is another one than export.json says')
        with self.faults.check(LEDGER, 'checkpoint'):
            self.trust.checkpoint(note)

    def chunk(self, first, end):
        name = 'entries/%020d.jsonl' % first
        b = self.member(name, 256 * 65536, False)
        must(b.endswith(b'\n'), 'no line feed at the end of ' + name)
        lines = b.split(b'\n')[:-1]
        if len(lines) != end - first:
            self.faults.add(LEDGER, name, '%d entries, and these are %d' % (end - first, len(lines)))
            raise Stop
        self.named, self.owed, brackets = set(), {}, []
        for i, l in enumerate(lines, first):
            e = self.entry(i, l)
            if e and e['type'] == 'checkpoint.timestamped':
                with self.faults.check(LEDGER, 'entry %d' % i):
                    brackets.append((i, e, self.past(i, e['body'])))
        wanted = {d for _, e, _ in brackets for d in digests(e['body'])}
        kept = self.attachments('attachments/%020d/' % first, wanted)
        for i, e, past in brackets:
            self.bracket(i, e, past, kept)
        return end

    def entry(self, i, raw):
        leaf, prev, e = leaf_hash(raw), self.prev, None
        self.prev = leaf
        self.tree.add(0, leaf)
        with self.faults.check(LEDGER, 'entry %d' % i):
            e = parse_entry(raw)
        if not e:
            self.index = None
            self.recent.append((leaf, self.last))
            return None
        with self.faults.check(LEDGER, 'entry %d' % i):
            must(int(e['index']) == i, 'it says that it is entry %s' % e['index'])
            must(prev is None or e['prev'] == prev.hex(), 'the chain is broken')
        with self.faults.check(LEDGER, 'entry %d' % i):
            must(self.last is None or self.last <= instant(e['time']), 'time went back')
        self.last = instant(e['time'])
        self.recent.append((leaf, self.last))
        with self.faults.check(LEDGER, 'entry %d' % i):
            must((e['type'] == 'ledger.created') == (i == 0), 'ledger.created is the type of entry 0, and of no other')
            must(i > 0 or not self.checkpoint or e['body'].get('origin') == self.checkpoint[0], 'the ledger was created as another one')
        if self.index and e['type'] == 'index.committed':
            with self.faults.check(LEDGER, 'entry %d' % i):
                self.committed(i, e['body'])
        if self.index:
            self.waiting.append((i, leaf, index_keys(e)))
            self.settle(i - LAG)
        if len(self.recent) > 3 * LAG:  # no checkpoint that is time-stamped later can be as old
            self.forget(2 * LAG - 1)
        self.named |= digests(e['body'])
        for k in OWED.get(e['type'], ()):
            for d in digests(e['body'].get(k)):
                self.owed[d] = i
        return e

    def committed(self, i, body):
        obj({'entries': DECIMAL, 'format': exactly('signet-index/v1'), 'keys': DECIMAL, 'root': HEX})(body)
        n = int(body['entries'])
        must(0 < n <= i and i - n <= LAG and (self.newest is None or n > self.newest), 'an index of %d entries does not belong there' % n)
        self.newest = i
        self.settle(n)
        must((self.index.hash(self.index.root).hex(), str(self.index.keys)) == (body['root'], body['keys']), 'the root of the index is another one')

    def settle(self, n):
        """Brings the entries below n into the index."""
        while self.waiting and self.waiting[0][0] < n:
            self.index.add(*self.waiting.popleft())

    def forget(self, n):
        """Moves the tree that time-stamped checkpoints are held against forward by n entries."""
        for leaf, self.covered in self.recent[:n]:
            self.then.add(0, leaf)
        del self.recent[:n]

    def past(self, i, body):
        """What the ledger was at the size that a time-stamped checkpoint names: (root, time of the last entry), or None where that is not known."""
        obj({'checkpoint': HEX, 'root': HEX, 'size': DECIMAL, 'timestamps': seq(HEX, 8, 1)})(body)
        n = int(body['size'])
        must(0 < n <= i and i - n <= LAG, 'a checkpoint of %d entries does not belong there' % n)
        if n < self.start:
            return None
        if n < self.then.size:
            self.faults.add(LEDGER, 'entry %d' % i, 'a checkpoint of fewer entries than the one before it')
            return None
        self.forget(n - self.then.size)
        if self.then.root().hex() != body['root']:
            self.faults.add(LEDGER, 'entry %d' % i, 'the ledger was forked: the entries give another root for the size %d' % n)
        return self.covered

    def attachments(self, prefix, wanted):
        kept, last = {}, ''
        self.a.next()
        while self.a.name.startswith(prefix):
            where, digest = self.a.name, self.a.name[len(prefix):]
            HEX(digest)
            must(digest > last, 'attachments out of order')
            last, b = digest, self.a.content(8 << 20)
            if digest not in self.named:
                self.faults.add(CONTENT, where, 'extra')
            elif hexsum(b) != digest:
                self.faults.add(CONTENT, where, 'changed')
            elif digest in wanted:
                kept[digest] = b
            self.owed.pop(digest, None)
            self.a.next()
        for digest, i in self.owed.items():
            self.faults.add(CONTENT, prefix + digest, 'missing; entry %d names it' % i)
        return kept

    def bracket(self, i, e, past, kept):
        body, where = e['body'], 'entry %d' % i
        if body['checkpoint'] in kept:
            with self.faults.check(LEDGER, where):
                _, size, root = self.trust.checkpoint(kept[body['checkpoint']], False)
                must((size, root.hex()) == (int(body['size']), body['root']), 'the time-stamped checkpoint is another one')
        held, strangers = 0, []
        for t in body['timestamps']:
            if t not in kept:
                continue
            with self.faults.check(TIME, where):
                try:
                    at, accuracy = self.trust.timestamp(kept[t], bytes.fromhex(body['checkpoint']))
                except Unpinned as x:
                    strangers.append(x)
                    continue
                slack = 60000 + accuracy
                must(instant(e['time']) >= at - slack, 'the time-stamp is younger than its entry')
                must(not past or past <= at + slack, 'the time-stamp is older than what it covers')
                held += 1
        if strangers and not held:
            self.faults.add(TIME, where, 'none of its time-stamps holds: %s' % strangers[0])


# --- Command ------------------------------------------------------------------------------------------------------------------------------

class Usage(Exception):
    pass


def asked_time(text):
    """Milliseconds of a time as in RFC 3339, or of the end of a date in UTC."""
    m = re.fullmatch(r'(\d{4})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d)))?', text, re.ASCII)
    try:
        year, month, day, hour, minute, second = (int(m[i] or 0) for i in range(1, 7))
        t = (datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.timezone.utc) - EPOCH) // datetime.timedelta(milliseconds=1)
        if not m[4]:
            return t + 86400000 - 1
        hours, minutes = int(m[9] or 0), int(m[10] or 0)
        must(hours < 24 and minutes < 60, 'an offset of more than a day')
        t += int((m[7] or '').ljust(3, '0')[:3]) - int((m[8] or '+') + '1') * 60000 * (60 * hours + minutes)
        must(EPOCH + datetime.timedelta(milliseconds=t) > datetime.datetime.min.replace(tzinfo=datetime.timezone.utc), 'before the year 1')
        return t
    except (TypeError, ValueError, OverflowError):
        raise Usage('--at: %.80r is no time; give one like 2026-11-21T09:30:00Z, or a date like 2026-11-21' % text)


def written(milliseconds):
    t = EPOCH + datetime.timedelta(milliseconds=milliseconds)
    return t.replace(tzinfo=None).isoformat(timespec='milliseconds') + 'Z'


def main(arguments=None):
    parser = argparse.ArgumentParser(description='Verify a Signet signature manifest or export, offline.')
    parser.add_argument('--trust', help='the pinned trust file; without one nothing is trusted')
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument('--manifest', help='a signature manifest')
    what.add_argument('--export', help='an export of a ledger')
    parser.add_argument('--bundle', help='what was signed: a folder, .tar, .tar.gz or .zip')
    parser.add_argument('--at', metavar='TIME', help='what somebody found who verified at this time (RFC 3339, or a date: its end in UTC)')
    parser.add_argument('--json', action='store_true', help='print the verdict as JSON')
    o = parser.parse_args(arguments)
    faults, trust, manifest, asked = Faults(), None, None, None
    if not shutil.which('openssl'):
        print('internal failure: the openssl command is not installed', file=sys.stderr)
        return 1
    try:
        if o.at is not None:
            if o.export:
                raise Usage('an export is verified by itself, without --at')
            asked = asked_time(o.at)
        pinned = open(o.trust, 'rb').read() if o.trust else b''
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Stop):
            ssl = OpenSSL(folder)
            trust = Trust(pinned, ssl, faults, asked)
            if o.export:
                with open(o.export, 'rb') as f:
                    Export(f, trust, faults).judge()
            else:
                with open(o.manifest, 'rb') as f:
                    manifest = Manifest(f.read((64 << 20) + 1), trust, faults, ssl)
                manifest.judge(o.bundle)
    except (Usage, FileNotFoundError) as e:
        print('wrong usage: %s' % e, file=sys.stderr)
        return 2
    except Exception as e:
        print('internal failure: %r' % e, file=sys.stderr)
        return 1
    code = faults.verdict()
    at = '' if asked is None else written(asked)
    if o.json:
        print(json.dumps({'code': code, 'verdict': VERDICTS[code], 'at': at, 'unwitnessed': bool(trust and trust.unwitnessed),
                          'faults': [{'code': c, 'where': w, 'what': x} for c, w, x in faults]}, indent=2))
        return code
    print(('VERIFIED' if code == 0 else 'NOT VERIFIED (%s)' % VERDICTS[code]) + (' as of ' + at if at else ''))
    for c, where, x in faults:
        print(ascii('  %d %s: %s: %s' % (c, VERDICTS[c], where, x))[1:-1])
    if at and manifest and getattr(manifest, 'left_out', 0):
        print('Note: %d of %d signatures are later and were not judged.' % (manifest.left_out, len(manifest.m['signatures'])))
    if trust and trust.unwitnessed:
        print('Note: the ledger is unwitnessed: nobody but its operator vouches that it shows everybody the same entries.')
    return code


if __name__ == '__main__':
    sys.exit(main())
