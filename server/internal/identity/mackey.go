package identity

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server/internal/ledger"
)

// KeyPasswords is the role of the MAC key that password verifiers and the seeds of one-time passwords depend on. It never leaves the HSM, so
// whoever has copied the database has nothing to try guesses against. Where the key.created of others has the public key attached, and its
// SHA-256 as key id, this one has the check value ([keystore.MACKey].Check).
const KeyPasswords = "passwords"

// MACs makes the MAC key and computes with it; a *keystore.Store does.
type MACs interface {
	GenerateMAC(ctx context.Context, id keystore.ID) (keystore.MACKey, error)
	MAC(ctx context.Context, key keystore.MACKey, input []byte) ([]byte, error)
	DestroyMAC(ctx context.Context, id keystore.ID) error
}

// macRow is what the projection knows of the MAC key.
type macRow struct {
	ID    string `json:"id"`
	Index uint64 `json:"index"`
}

// applyMACKey notes the newest MAC key.
func applyMACKey(s *ledger.State, e chain.Entry, body keyCreated) error {
	if body.Role != KeyPasswords || body.Algorithm != keystore.HMACSHA256 {
		return nil
	}
	return put(s, bucketMeta, []byte(KeyPasswords), macRow{ID: body.ID, Index: e.Index})
}

// EnsureKeys makes the MAC key where there is none yet: in a new data folder, and in one from before there were any. Everything that needs the
// key does the same.
func (d *Directory) EnsureKeys(ctx context.Context) error {
	_, err := d.macKey(ctx)
	return err
}

// macKey returns the MAC key, as its entry has it, proved by inclusion.
func (d *Directory) macKey(ctx context.Context) (keystore.MACKey, error) {
	d.macMu.Lock()
	defer d.macMu.Unlock()
	if d.mac.ID != "" {
		return d.mac, nil
	}
	key, err := d.readMACKey()
	if err == nil && key.ID == "" {
		if err = d.makeMACKey(ctx); err == nil {
			key, err = d.readMACKey()
		}
	}
	if errors.Is(err, ledger.ErrNotCheckpointed) { // another one has made it this moment
		if _, err = d.ledger.Checkpointed(ctx, d.ledger.Size()); err == nil {
			key, err = d.readMACKey()
		}
	}
	if err != nil {
		return keystore.MACKey{}, err
	}
	d.mac = key
	return key, nil
}

// readMACKey returns the zero key where there is none.
func (d *Directory) readMACKey() (key keystore.MACKey, err error) {
	err = d.ledger.View(func(r *ledger.Read) error {
		var row macRow
		if ok, err := get(r.View(projectionName), bucketMeta, []byte(KeyPasswords), &row); err != nil || !ok {
			return err
		}
		b, err := r.ProvedEntry(row.Index)
		if err != nil {
			return err
		}
		e, err := chain.ParseEntry(b)
		if err != nil {
			return err
		}
		if e.Type != chain.KeyCreated {
			return errTamperedRow(row.Index)
		}
		body, err := readBody[keyCreated](e)
		if err != nil {
			return err
		}
		if body.Role != KeyPasswords || body.Algorithm != keystore.HMACSHA256 || body.ID != row.ID {
			return errTamperedRow(row.Index)
		}
		attachments, err := r.Attachments(row.Index)
		if err != nil {
			return err
		}
		if len(attachments) != 1 || hexSum(attachments[0]) != body.KeyID {
			return errTamperedRow(row.Index)
		}
		key = keystore.MACKey{ID: keystore.ID(body.ID), Check: hex.EncodeToString(attachments[0]), Attributes: body.Attributes}
		return nil
	})
	return key, err
}

func (d *Directory) makeMACKey(ctx context.Context) error {
	key, err := d.macs.GenerateMAC(ctx, NewLabel(KeyPasswords))
	if err != nil {
		return err
	}
	check, err := hex.DecodeString(key.Check)
	if err != nil {
		return err
	}
	// A crash here leaves a key in the HSM that no entry names. It means nothing, and its id is not used again.
	used := false
	result, err := d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		var row macRow
		ok, err := get(tx.View(projectionName), bucketMeta, []byte(KeyPasswords), &row)
		if used = !ok; err != nil || ok { // another one was first
			return err
		}
		tx.Emit(ledger.Event{Type: chain.KeyCreated, Actor: System("identity").Actor(), Attachments: [][]byte{check}, Body: keyCreated{
			Algorithm: keystore.HMACSHA256, Attributes: key.Attributes, ID: string(key.ID), KeyID: hexSum(check), Role: KeyPasswords,
		}})
		return nil
	})
	if err != nil { // it may have been appended all the same; then the key must stay
		return err
	}
	if !used {
		if err := d.macs.DestroyMAC(context.WithoutCancel(ctx), key.ID); err != nil {
			d.cfg.Log.WarnContext(ctx, "a key that nothing refers to stays in the HSM", "key", key.ID, "error", err)
		}
		return nil
	}
	_, err = d.ledger.Checkpointed(ctx, result.End())
	return err
}

// computeMAC computes over a purpose and the parts, each with its length, so that no two lists of parts are the same input. It is an error of
// the HSM's and never a wrong answer where the HSM does not do its part.
func (d *Directory) computeMAC(ctx context.Context, key keystore.MACKey, purpose string, parts ...[]byte) ([]byte, error) {
	input := append([]byte("signet "+purpose), 0)
	for _, p := range parts {
		input = binary.BigEndian.AppendUint32(input, uint32(len(p)))
		input = append(input, p...)
	}
	mac, err := d.macs.MAC(ctx, key, input)
	if err != nil {
		return nil, fmt.Errorf("the HSM is needed for every check of a password: %w", err)
	}
	return mac, nil
}
