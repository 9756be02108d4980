package main

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/signetd/signet/api/chain"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// seenHead is the newest verified head of a ledger that this profile has seen. A ledger that no longer contains it was rewritten.
type seenHead struct {
	Origin string     `json:"origin"`
	Size   uint64     `json:"size,string"`
	Root   chain.Hash `json:"root"`
}

func (s selected) seenFile() (string, error) {
	dir, err := configDir()
	return filepath.Join(dir, "seen", s.name+".json"), err
}

// follow proves that a verified head continues the one that was seen last, and remembers it. It returns the size of the one that was seen; 0: none.
func (s selected) follow(ctx context.Context, client *signet.Client, head *signetv1.GetCheckpointResponse) (uint64, error) {
	path, err := s.seenFile()
	if err != nil {
		return 0, err
	}
	now := seenHead{Origin: head.GetOrigin(), Size: head.GetSize(), Root: chain.Hash(head.GetRootHash())}
	var seen seenHead
	b, err := readFile(path, maxSmallFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, err
	default:
		if err := json.Unmarshal(b, &seen, json.RejectUnknownMembers(true)); err != nil {
			return 0, withNext(fmt.Errorf("%s: %w", path, err), "delete it to begin anew")
		}
	}
	if seen.Origin == now.Origin && seen.Size > 0 {
		if err := continues(ctx, client, seen, now); err != nil {
			return seen.Size, err
		}
	} else {
		seen.Size = 0
	}
	b, err = json.Marshal(now)
	if err != nil {
		return seen.Size, err
	}
	return seen.Size, writeFile(path, append(b, '\n'), 0o600)
}

// continues proves that the ledger of one head is the beginning of that of another.
func continues(ctx context.Context, client *signet.Client, seen, now seenHead) error {
	switch {
	case now.Size < seen.Size:
		return ledgerFault("the ledger has %d entries, and had %d when it was last looked at: it was cut off, or set back to an older copy", now.Size, seen.Size)
	case now.Size == seen.Size && now.Root != seen.Root:
		return ledgerFault("the ledger of %d entries has another root than when it was last looked at: it was rewritten", now.Size)
	case now.Size == seen.Size:
		return nil
	}
	answer, err := client.ProveConsistency(ctx, seen.Size, now.Size)
	if err != nil {
		return err
	}
	hashes, err := hashesOf(answer.GetHashes())
	if err != nil {
		return err
	}
	if err := chain.VerifyConsistency(hashes, seen.Size, now.Size, seen.Root, now.Root); err != nil {
		return ledgerFault("the ledger of %d entries, seen before, is not the beginning of that of %d: it was rewritten: %w", seen.Size, now.Size, err)
	}
	return nil
}

// hashesOf reads the hashes of a proof.
func hashesOf(list [][]byte) ([]chain.Hash, error) {
	hashes := make([]chain.Hash, len(list))
	for i, h := range list {
		if len(h) != len(chain.Hash{}) {
			return nil, ledgerFault("a hash of the proof has %d bytes", len(h))
		}
		hashes[i] = chain.Hash(h)
	}
	return hashes, nil
}
