package verify

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tags "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
)

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidAltName         = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCommonName      = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization    = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidDocumentSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 36}
)

// identity shows that the key was the signer's when they signed.
func (j *judge) identity(s *signature) {
	j.authorization(s)
	certificates := make([]*x509.Certificate, len(s.Certificates))
	for i, der := range s.Certificates {
		c, err := j.certificate(der)
		if err != nil {
			if i > 0 { // the first has been reported
				j.signatureFault(s, Untrusted, fmt.Sprintf(".certificates[%d]", i), "%v", err)
			}
			return
		}
		certificates[i] = c
	}
	leaf := certificates[0]
	if err := checkProfile(leaf); err != nil {
		j.signatureFault(s, Untrusted, ".certificates[0]", "%v", err)
	}
	if err := checkNames(leaf, s.Statement.Predicate.Signer, j.trust.Issuer); err != nil {
		j.signatureFault(s, Untrusted, ".certificates[0]", "%v", err)
	}
	if err := j.chain(s, certificates); err != nil {
		j.signatureFault(s, Untrusted, ".certificates", "%v", err)
	}
	at := s.genTime.Add(s.accuracy)
	if s.genTime.IsZero() {
		at = s.Statement.Predicate.Expires.Time() // no later time can be meant
	}
	for i, c := range certificates {
		if from, revoked := j.revokedKey(c, at); revoked {
			j.signatureFault(s, Untrusted, fmt.Sprintf(".certificates[%d]", i), "the key of %q no longer counts from %s",
				c.Subject, from)
		}
	}
}

// authorization holds the signer's proof against what was demanded.
func (j *judge) authorization(s *signature) {
	kind, demanded := s.Authorization.Kind, s.Statement.Predicate.Requires
	switch {
	case !kind.Covers(demanded):
		j.signatureFault(s, Untrusted, ".authorization", "the signer proved themselves with %s, and %s was demanded",
			kind, demanded)
	case kind.Passkey():
		j.passkey(s)
	}
}

// checkProfile holds a signer's certificate to the profile of formats: it signs code and documents, and nothing else.
func checkProfile(c *x509.Certificate) error {
	if c.Version != 3 {
		return errors.New("the certificate is not of version 3")
	}
	if c.IsCA {
		return errors.New("the certificate is that of a CA, not of a signer")
	}
	critical := false
	for _, e := range c.Extensions {
		critical = critical || e.Id.Equal(oidKeyUsage) && e.Critical
	}
	if !critical || c.KeyUsage != x509.KeyUsageDigitalSignature {
		return errors.New("the certificate's key usage is not digitalSignature alone, critical")
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) ||
		len(c.UnknownExtKeyUsage) != 1 || !c.UnknownExtKeyUsage[0].Equal(oidDocumentSigning) {
		return errors.New("the certificate's extended key usage is not codeSigning and documentSigning alone")
	}
	return nil
}

// checkNames holds a certificate against the signer of the statement.
func checkNames(c *x509.Certificate, signer manifest.Signer, issuer string) error {
	kind := "services"
	if signer.Person() {
		kind = "signers"
	}
	want := issuer + "/" + kind + "/" + signer.ID
	uri, err := onlyURI(c)
	if err != nil {
		return err
	}
	if uri != want {
		return fmt.Errorf("the certificate is of %q, and the signer %q", uri, want)
	}
	name, organisation := []string{}, []string{}
	for _, a := range c.Subject.Names {
		value, _ := a.Value.(string)
		switch {
		case a.Type.Equal(oidCommonName):
			name = append(name, value)
		case a.Type.Equal(oidOrganization):
			organisation = append(organisation, value)
		}
	}
	if len(name) != 1 || name[0] != signer.Name {
		return fmt.Errorf("the certificate is of %q, and the printed name is %q", name, signer.Name)
	}
	if len(organisation) == 0 && signer.Organisation == "" {
		return nil
	}
	if len(organisation) != 1 || organisation[0] != signer.Organisation {
		return fmt.Errorf("the certificate is of the organisation %q, and the statement says %q", organisation,
			signer.Organisation)
	}
	return nil
}

// onlyURI returns the one alternative name that a certificate must have, as encoded.
func onlyURI(c *x509.Certificate) (string, error) {
	bad := errors.New("the certificate does not have exactly one alternative name, a URI")
	for _, e := range c.Extensions {
		if !e.Id.Equal(oidAltName) {
			continue
		}
		input := cryptobyte.String(e.Value)
		var names, uri cryptobyte.String
		if !input.ReadASN1(&names, tags.SEQUENCE) || !input.Empty() ||
			!names.ReadASN1(&uri, tags.Tag(6).ContextSpecific()) || !names.Empty() {
			return "", bad
		}
		return string(uri), nil
	}
	return "", bad
}

// chain leads the certificates, in their order, to a pinned root that held at the time. Where the time is not proven,
// only the chain is judged.
func (j *judge) chain(s *signature, certificates []*x509.Certificate) error {
	last := certificates[len(certificates)-1]
	pinned, held := false, false
	for _, r := range j.signerRoots {
		if bytes.Equal(r.certificate.Raw, last.Raw) {
			pinned = true
			held = held || s.genTime.IsZero() || r.Holds(manifest.NewTime(s.genTime))
		}
	}
	switch {
	case !pinned:
		return fmt.Errorf("no pinned root leads to the signer: the last certificate is %q, which the trust file does not pin",
			last.Subject)
	case !held:
		return fmt.Errorf("the pinned root %q was not trusted at %s", last.Subject, s.genTime.Format(time.RFC3339Nano))
	case len(certificates) < 2:
		return errors.New("a root cannot sign by itself")
	}
	leaf := certificates[0]
	at := s.genTime
	if at.IsZero() {
		at = leaf.NotBefore
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(last)
	for _, c := range certificates[1 : len(certificates)-1] {
		intermediates.AddCert(c)
	}
	for _, c := range certificates {
		if err := strong(c.PublicKey); err != nil {
			return fmt.Errorf("the key of %q: %w", c.Subject, err)
		}
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return fmt.Errorf("no chain from %q to the pinned root held at %s: %v", leaf.Subject, at.Format(time.RFC3339Nano),
			err)
	}
	for _, found := range chains {
		if slices.EqualFunc(found, certificates, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }) {
			return nil
		}
	}
	return errors.New("the certificates are not the chain from the signer to the root, in this order")
}

// binding is a proved entry that binds a name and a key to an id.
type binding struct {
	index                                             uint64
	leaf                                              chain.Hash
	id, name, title, organisation, keyID, certificate string
	roles                                             []string
}

// revocation is a proved entry that ends a key.
type revocation struct {
	index     uint64
	time      chain.Time
	id, keyID string
}

// enrolment holds the statement against the entry that bound name and key to the signer's id, and against revocations.
func (j *judge) enrolment(s *signature) {
	signer := s.Statement.Predicate.Signer
	bad := func(code Code, format string, args ...any) {
		j.signatureFault(s, code, ".statement.predicate.signer.enrolment", format, args...)
	}
	i := slices.IndexFunc(j.bindings, func(b binding) bool { return b.leaf == signer.Enrolment })
	if i < 0 {
		bad(Ledger, "the entry that bound name and key to the signer, with the leaf hash %s, "+
			"is not among the proved supporting entries", signer.Enrolment)
		return
	}
	b := j.bindings[i]
	certificate := digest(s.Certificates[0]).String()
	role, differ := j.rolesDiffer(s, b)
	switch {
	case b.id != signer.ID:
		bad(Untrusted, "the entry %d is about %s, and the signer is %s", b.index, b.id, signer.ID)
	case b.name != signer.Name || b.title != signer.Title || b.organisation != signer.Organisation:
		bad(Untrusted, "the entry %d names %q, %q, %q, and the statement %q, %q, %q",
			b.index, b.name, b.title, b.organisation, signer.Name, signer.Title, signer.Organisation)
	case differ:
		bad(Untrusted, "the entry %d gives the roles %q, and the statement says %q; no proved entry accounts for %q", b.index, b.roles,
			signer.Roles, role)
	case b.keyID != s.Signature.Signature.KeyID:
		bad(Untrusted, "the entry %d binds the key %s, and the signature is by %s", b.index, b.keyID,
			s.Signature.Signature.KeyID)
	case b.certificate != certificate:
		bad(Untrusted, "the entry %d names the certificate with SHA-256 %s, and the signature has %s", b.index,
			b.certificate, certificate)
	}
	if s.entry == nil {
		return // the ledger's own faults say why
	}
	if b.index >= s.entry.Index {
		bad(Ledger, "the signer was enrolled by the entry %d, after the signature (entry %d)", b.index, s.entry.Index)
	}
	for _, o := range j.bindings {
		if o.id == signer.ID && o.index > b.index && o.index < s.entry.Index {
			bad(Untrusted, "the entry %d had replaced the enrolment before the signature was made", o.index)
		}
	}
	for _, r := range j.revocations {
		if r.id != signer.ID || r.keyID != "" && r.keyID != s.Signature.Signature.KeyID {
			continue
		}
		if r.index < s.entry.Index { // the order of the ledger says what was first, more finely than any clock
			j.signatureFault(s, Untrusted, "",
				"the signer's key was revoked by the entry %d at %s, before the signature was made", r.index, r.time)
			continue
		}
		j.note("the key of %s was revoked by the entry %d at %s, after the signature of the entry %d, which stands", signer.ID, r.index, r.time, s.entry.Index)
	}
	s.identified = true
}
