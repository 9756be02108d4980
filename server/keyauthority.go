package server

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/failpoint"
	"github.com/signetd/signet/server/internal/identity"
	"github.com/signetd/signet/server/internal/ledger"
)

// rotateTSA rotates the key of the time-stamping authority: its new certificate comes from the CA that verifiers pin already. Tokens carry
// their certificate, so older ones go on verifying.
func (s *Server) rotateTSA(ctx context.Context, c keyChange, row keyRow) (string, error) {
	if err := s.ledger.View(func(r *ledger.Read) error { return s.identities.MayCertify(r) }); err != nil {
		return "", err
	}
	ca, err := readKey(s.ledger, keyCA)
	if err != nil {
		return "", err
	}
	key, created, err := s.newOwnKey(ctx, c, row)
	if err != nil {
		return "", err
	}
	// Crash point: a key is in the HSM that no entry names. It means nothing, and its label is not used again.
	failpoint.Hit("keys.tsa-made")
	err = func() error {
		certificate, err := identity.IssueTSA(ctx, identity.TSAConfig{
			Name: s.config.Organisation + " Signet TSA", Organisation: s.config.Organisation, Public: key.Public, CA: ca.Certificate,
			CAKey: keystore.Key{ID: ca.ID, Algorithm: ca.Algorithm, Public: ca.Public, KeyID: ca.KeyID}, Keys: s.keys, Now: s.clock(),
			PublicURL: s.config.Web.PublicURL,
		})
		if err != nil {
			return err
		}
		next := ownKey{ID: key.ID, Algorithm: key.Algorithm, KeyID: key.KeyID, Public: key.Public, Certificate: certificate}
		config, err := authorityConfig(s.config, next, []*x509.Certificate{ca.Certificate}, s.ledger, s.keys, s.clock)
		if err != nil {
			return err
		}
		authority, err := s.tsa.Load().Rotated(config)
		if err != nil {
			return err
		}
		err = s.commitRotation(ctx, c, row, key.KeyID, func(tx *ledger.Tx) error {
			if err := s.identities.MayCertify(tx); err != nil {
				return err
			}
			tx.Emit(created)
			tx.Emit(issued(c.caller.Actor(), keyTSA, key, certificate))
			return nil
		})
		if err == nil {
			s.tsa.Store(authority)
		}
		return err
	}()
	if err != nil {
		s.unnamed(ctx, key.ID, err)
		return "", err
	}
	return key.KeyID, nil
}

// rotateCA makes a new CA with a root certificate of its own. It certifies from now on; what its predecessors have certified holds. The
// server's trust file gets the new root, and every verifier needs that file before it meets the first signature of a signer
// whom the new CA has certified.
func (s *Server) rotateCA(ctx context.Context, c keyChange, row keyRow) (string, error) {
	roots, err := readRoots(s.ledger)
	if err != nil {
		return "", err
	}
	key, created, err := s.newOwnKey(ctx, c, row)
	if err != nil {
		return "", err
	}
	// Crash point: a key is in the HSM that no entry names. It means nothing, and its label is not used again.
	failpoint.Hit("keys.ca-made")
	err = func() error {
		root, err := identity.CreateRoot(ctx, identity.RootConfig{
			Name:         fmt.Sprintf("%s Signet CA %d", s.config.Organisation, len(roots)+1), // two roots of one name confuse other tools
			Organisation: s.config.Organisation, Issuer: s.config.Issuer, Key: key, Keys: s.keys, Now: s.clock(),
		})
		if err != nil {
			return err
		}
		authority, err := identity.NewCA(identity.CAConfig{
			Issuer: s.config.Issuer, Key: key.ID, Certificate: root, Earlier: roots, PublicURL: s.config.Web.PublicURL, Keys: s.keys, Clock: s.clock,
		})
		if err != nil {
			return err
		}
		err = s.commitRotation(ctx, c, row, key.KeyID, func(tx *ledger.Tx) error {
			tx.Emit(created)
			tx.Emit(issued(c.caller.Actor(), keyCA, key, root))
			return nil
		})
		if err == nil {
			s.identities.SetCA(authority)
		}
		return err
	}()
	if err != nil {
		s.unnamed(ctx, key.ID, err)
		return "", err
	}
	// Crash point: the CA is in the ledger, and not in the trust file. The next start writes it.
	failpoint.Hit("keys.ca-recorded")
	if err := s.trustCA(); err != nil {
		return "", fmt.Errorf("the CA was rotated, but the trust file was not written; the next start writes it: %w", err)
	}
	return key.KeyID, nil
}

// trustCA writes the newest CA into the trust file, where it is missing. Roots that somebody has taken out of it stay out.
func (s *Server) trustCA() error {
	ca, err := readKey(s.ledger, keyCA)
	if err != nil {
		return err
	}
	if ca.Certificate == nil {
		return fmt.Errorf("%w: the CA has no certificate", ledger.ErrCorrupt)
	}
	s.trusting.Lock()
	defer s.trusting.Unlock()
	t, err := manifest.ParseTrust(*s.trust.Load())
	if err != nil {
		return err
	}
	anchor := manifest.Root{Certificate: ca.Certificate.Raw, From: chain.NewTime(ca.Certificate.NotBefore), To: ""}
	changed := false
	for _, list := range []*[]manifest.Root{&t.SignerRoots, &t.TimestampRoots} {
		known := false
		for _, r := range *list {
			known = known || bytes.Equal(r.Certificate, anchor.Certificate)
		}
		if !known {
			*list, changed = append(*list, anchor), true
		}
	}
	if !changed {
		return nil
	}
	b, err := t.Encode()
	if err != nil {
		return err
	}
	path := s.config.Path(TrustFile)
	if err := replaceFile(path, b, 0o644); err != nil {
		return fmt.Errorf("trust file: %w", err)
	}
	s.trust.Store(&b)
	s.log.Warn("the trust file names a new CA: every verifier must pin it anew", "file", path, "key", ca.KeyID)
	return nil
}

// replaceFile puts a file in the place of another in one step, and makes it durable.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what is left where a step fails
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
