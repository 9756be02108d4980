package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// ClientAuthorities are the organisation's own CAs, whose certificates services may show instead of pinned ones. Who a service is says the
// one URI alternative name of its certificate. It is safe for concurrent use.
//
// Where there are revocation lists, each certificate below a root must be covered by a list of its issuer that holds now: a list that has
// lapsed lets nobody in. Files that change are read again without a restart; what cannot be read leaves the earlier ones in force, until
// they lapse.
type ClientAuthorities struct {
	files    []string // of authorities, PEM
	lists    []string // of revocation lists, PEM or DER
	clock    func() time.Time
	log      *slog.Logger
	current  atomic.Pointer[authorities]
	checking sync.Mutex
}

// authorities is what the files said when they were read.
type authorities struct {
	roots    *x509.CertPool
	lists    []*x509.RevocationList
	versions []fileVersion
	looked   time.Time // when the files were last looked at

	mu    sync.RWMutex
	known map[[sha256.Size]byte]verified
}

type verified struct {
	uri   string
	until time.Time
}

type fileVersion struct {
	modified time.Time
	size     int64
}

const (
	reloadEvery   = 5 * time.Second // how often files are looked at, at the most
	verifiedFor   = time.Minute     // how long a chain that was verified is not verified again
	maxVerified   = 4096
	maxAuthority  = 4 << 20 // bytes of one file
	maxAboveChain = 8
	maxURI        = 512
)

// NewClientAuthorities reads authorities and revocation lists. Without files of authorities there are none: it returns nil.
func NewClientAuthorities(files, lists []string, clock func() time.Time, log *slog.Logger) (*ClientAuthorities, error) {
	if len(files) == 0 {
		if len(lists) > 0 {
			return nil, fmt.Errorf("%w: revocation lists of client authorities, but no authorities", ErrInvalid)
		}
		return nil, nil
	}
	c := &ClientAuthorities{files: files, lists: lists, clock: clock, log: log}
	now, err := c.read()
	if err != nil {
		return nil, err
	}
	c.current.Store(now)
	return c, nil
}

func (c *ClientAuthorities) stat() ([]fileVersion, error) {
	var out []fileVersion
	for _, list := range [][]string{c.files, c.lists} {
		for _, f := range list {
			info, err := os.Stat(f)
			if err != nil {
				return nil, err
			}
			out = append(out, fileVersion{info.ModTime(), info.Size()})
		}
	}
	return out, nil
}

func (c *ClientAuthorities) read() (*authorities, error) {
	versions, err := c.stat() // before the content: a change meanwhile is seen next time
	if err != nil {
		return nil, err
	}
	a := &authorities{roots: x509.NewCertPool(), versions: versions, looked: c.clock(), known: map[[sha256.Size]byte]verified{}}
	for _, f := range c.files {
		blocks, err := readPEM(f, "CERTIFICATE")
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			cert, err := x509.ParseCertificate(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f, err)
			}
			if !cert.IsCA || !cert.BasicConstraintsValid {
				return nil, fmt.Errorf("%w: %s: %s is no CA; pin the certificate of a service instead", ErrInvalid, f, cert.Subject)
			}
			a.roots.AddCert(cert)
		}
	}
	for _, f := range c.lists {
		blocks, err := readPEM(f, "X509 CRL")
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			list, err := x509.ParseRevocationList(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f, err)
			}
			a.lists = append(a.lists, list)
		}
	}
	return a, nil
}

// readPEM reads the blocks of a file, or one thing in DER.
func readPEM(file, kind string) ([][]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxAuthority {
		return nil, fmt.Errorf("%w: %s has %d bytes; at most %d", ErrInvalid, file, info.Size(), maxAuthority)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if len(content) > 0 && content[0] == 0x30 {
		return [][]byte{content}, nil
	}
	var out [][]byte
	for rest := content; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			if len(bytes.TrimSpace(rest)) > 0 || len(out) == 0 {
				return nil, fmt.Errorf("%w: %s is no file of %s blocks in PEM", ErrInvalid, file, kind)
			}
			return out, nil
		}
		if b.Type != kind {
			return nil, fmt.Errorf("%w: %s holds a %s, not a %s", ErrInvalid, file, b.Type, kind)
		}
		out = append(out, b.Bytes)
	}
}

// fresh returns what the files say, reading them again where they have changed.
func (c *ClientAuthorities) fresh() *authorities {
	a := c.current.Load()
	now := c.clock()
	if since := now.Sub(a.lookedAt()); since >= 0 && since < reloadEvery || !c.checking.TryLock() {
		return a
	}
	defer c.checking.Unlock()
	a.look(now)
	versions, err := c.stat()
	if err == nil && equalVersions(versions, a.versions) {
		return a
	}
	var next *authorities
	if err == nil {
		next, err = c.read()
	}
	if err != nil {
		c.log.Error("client authorities: the files cannot be read; the earlier ones hold", "error", err)
		return a
	}
	c.log.Info("client authorities were read again", "lists", len(next.lists))
	c.current.Store(next)
	return next
}

func equalVersions(a, b []fileVersion) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].size != b[i].size || !a[i].modified.Equal(b[i].modified) {
			return false
		}
	}
	return true
}

func (a *authorities) lookedAt() time.Time {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.looked
}

func (a *authorities) look(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looked = now
}

// uri verifies a client certificate with what came above it, and returns the URI that it names.
func (c *ClientAuthorities) uri(peer *x509.Certificate, above []*x509.Certificate) (string, error) {
	a, now := c.fresh(), c.clock()
	sum := chainSum(peer, above)
	a.mu.RLock()
	v, ok := a.known[sum]
	a.mu.RUnlock()
	if ok && now.Before(v.until) && !now.Before(v.until.Add(-verifiedFor)) {
		return v.uri, nil
	}
	uri, err := a.verify(peer, above, now)
	if err != nil {
		return "", err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxVerified {
		clear(a.known)
	}
	a.known[sum] = verified{uri, now.Add(verifiedFor)}
	return uri, nil
}

func chainSum(peer *x509.Certificate, above []*x509.Certificate) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(peer.Raw)
	for _, c := range above {
		h.Write(c.Raw)
	}
	h.Sum(sum[:0])
	return sum
}

func (a *authorities) verify(peer *x509.Certificate, above []*x509.Certificate, now time.Time) (string, error) {
	if len(above) > maxAboveChain {
		return "", fmt.Errorf("%w: %d certificates above the client's; at most %d", ErrSession, len(above), maxAboveChain)
	}
	intermediates := x509.NewCertPool()
	for _, c := range above {
		intermediates.AddCert(c)
	}
	chains, err := peer.Verify(x509.VerifyOptions{
		Roots: a.roots, Intermediates: intermediates, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", fmt.Errorf("%w: no service has enrolled this client certificate, and the organisation's CA does not vouch for it: %w", ErrSession, err)
	}
	if peer.IsCA || len(peer.URIs) != 1 || len(peer.DNSNames)+len(peer.EmailAddresses)+len(peer.IPAddresses) != 0 {
		return "", fmt.Errorf("%w: a client certificate of the organisation's CA names a service by one URI alternative name, and nothing else", ErrSession)
	}
	if len(a.lists) == 0 {
		return peer.URIs[0].String(), nil
	}
	var failed error
	for _, chain := range chains {
		if err := a.current(chain, now); err != nil {
			failed = errJoinFirst(failed, err)
			continue
		}
		return peer.URIs[0].String(), nil
	}
	return "", failed
}

// current holds each certificate of a chain, but the root, against the revocation list of its issuer.
func (a *authorities) current(chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain[:len(chain)-1] {
		covered := false
		for _, list := range a.lists {
			if list.CheckSignatureFrom(chain[i+1]) != nil {
				continue
			}
			for _, e := range list.RevokedCertificateEntries {
				if e.SerialNumber.Cmp(c.SerialNumber) == 0 {
					return fmt.Errorf("%w: the client certificate, or one above it, was revoked by its CA", ErrSession)
				}
			}
			covered = covered || !now.Before(list.ThisUpdate) && !list.NextUpdate.IsZero() && now.Before(list.NextUpdate)
		}
		if !covered {
			return fmt.Errorf("%w: no revocation list of %s holds now; an operator must fetch a new one (services.revocationLists)", ErrAuthorities, chain[i+1].Subject)
		}
	}
	return nil
}

// checkURI refuses what cannot be the URI of a service.
func (d *Directory) checkURI(uri string) error {
	if d.cfg.ClientAuthorities == nil {
		return fmt.Errorf("%w: the server knows no CA of the organisation (services.clientAuthorities): pin a certificate instead", ErrCertificateInvalid)
	}
	u, err := url.Parse(uri)
	if err != nil || len(uri) > maxURI || u.Scheme == "" || u.Host == "" || u.String() != uri || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%w: %.120q is no URI such as spiffe://example.com/ci", ErrCertificateInvalid, uri)
	}
	return nil
}
