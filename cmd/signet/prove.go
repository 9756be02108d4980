package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/index"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/clients/go/signet"
)

// ledgerFault is an answer about the ledger that does not hold against the pinned key.
func ledgerFault(format string, args ...any) error {
	return &exitError{code: exitLedger, err: fmt.Errorf(format, args...), next: "keep the output and tell whoever runs the server: the ledger is not the one that was pinned, or it was rewritten"}
}

// verifyWith tries the pinned keys of a ledger until one holds.
func verifyWith(trust manifest.Trust, origin string, open func(v note.Verifier) (chain.Checkpoint, error)) (chain.Checkpoint, error) {
	last := errors.New("the trust file pins no key for it")
	for _, l := range trust.Ledgers {
		if l.Origin != origin {
			continue
		}
		v, err := chain.NewVerifier(l.VKey)
		if err != nil {
			return chain.Checkpoint{}, err
		}
		c, err := open(v)
		if err == nil && l.Holds(c.Size) {
			return c, nil
		}
		if err == nil {
			err = fmt.Errorf("the pinned key does not hold for size %d", c.Size)
		}
		last = err
	}
	return chain.Checkpoint{}, ledgerFault("ledger %q: %w", origin, last)
}

// verifyHead verifies a checkpoint with the pinned trust file; false where none is pinned.
func (s selected) verifyHead(head *signetv1.GetCheckpointResponse) (bool, error) {
	p, err := s.pinnedTrust()
	if p == nil || err != nil {
		return false, err
	}
	c, err := verifyWith(p.trust, head.GetOrigin(), func(v note.Verifier) (chain.Checkpoint, error) { return chain.OpenCheckpoint(head.GetCheckpoint(), v) })
	if err != nil {
		return false, err
	}
	if c.Origin != head.GetOrigin() || c.Size != head.GetSize() || !bytes.Equal(c.Root[:], head.GetRootHash()) {
		return false, ledgerFault("the signed checkpoint says size %d and root %s, the server %d and %x", c.Size, c.Root, head.GetSize(), head.GetRootHash())
	}
	return true, nil
}

// proofOut is the proof of one entry.
type proofOut struct {
	entryOut
	Proof    string `json:"proof" doc:"C2SP tlog-proof of the entry against a signed checkpoint"`
	Size     string `json:"size" doc:"size of that checkpoint; empty where it is not verified"`
	Verified bool   `json:"verified" doc:"whether the proof verifies with a ledger key of the pinned trust file"`
}

// consistencyOut is the proof that a ledger was only appended to.
type consistencyOut struct {
	OldSize    string   `json:"oldSize" doc:"older size"`
	NewSize    string   `json:"newSize" doc:"newer size"`
	Hashes     []string `json:"hashes" doc:"RFC 6962 consistency proof, hex"`
	Checkpoint string   `json:"checkpoint" doc:"the newest signed checkpoint, where no newer size was given"`
	Verified   bool     `json:"verified" doc:"whether the proof leads from --old-root to the checkpoint, and this verifies with the pinned key"`
}

func (a *app) ledgerProve() *cobra.Command {
	var oldSize, newSize uint64
	var oldRoot, key, output string
	cmd := documented(&cobra.Command{
		Use: "prove INDEX", Short: "Prove that an entry is in the ledger, that a list is complete, or that the ledger was only appended to",
		Long: `Prove that an entry is in the ledger: prints a C2SP tlog-proof, which anybody can check who has the entry and the ledger's key.
With a pinned trust file it is verified before it is printed.

With --old-size instead of an index: prove that the ledger of that size is the beginning of the newer one. With --old-root, its root as noted
then, the proof is verified. JSON then has oldSize, newSize, hashes[], checkpoint, verified.

With --key instead of an index: write a document with every entry that has a key, and the proof that none was left out, which "signet ledger
verify" checks offline. Keys are event:EVENT (all about a record), subject:ID (all about a signer, service or key), actor:ID (all that somebody
caused), session:ID and type:TYPE. JSON then has key, origin, size, entries[].`,
		Example: `  signet ledger prove 41 > entry-41.tlog-proof
  signet ledger prove 41 --json
  signet ledger prove --key subject:sgn_kcakv2wzhkvfqa7rnkr4sz2ykq --output ada.complete
  signet ledger prove --old-size 41 --old-root 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("old-size") || cmd.Flags().Changed("key") {
				return exactArgs()(cmd, args)
			}
			return exactArgs("INDEX")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if key != "" {
				if output == "" {
					return usagef("--key writes a document: name its file with --output")
				}
				return a.proveCompleteness(cmd.Context(), key, output)
			}
			if len(args) == 0 {
				return a.proveConsistency(cmd.Context(), oldSize, newSize, oldRoot)
			}
			index, err := parseIndex(args[0])
			if err != nil {
				return err
			}
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				return a.proveInclusion(ctx, client, s, index)
			})
		},
	}, proofOut{})
	cmd.Flags().StringVar(&key, "key", "", "prove that a list of entries is complete: event:, subject:, actor:, session: or type: and a value")
	cmd.Flags().StringVarP(&output, "output", "o", "", "file of the document, with --key")
	cmd.Flags().Uint64Var(&oldSize, "old-size", 0, "prove that the ledger of this size was only appended to")
	cmd.Flags().Uint64Var(&newSize, "new-size", 0, "up to this size (default the newest checkpoint)")
	cmd.Flags().StringVar(&oldRoot, "old-root", "", "root hash at --old-size, as noted then, to verify the proof")
	return cmd
}

func (a *app) proveInclusion(ctx context.Context, client *signet.Client, s selected, index uint64) error {
	answer, err := client.ProveInclusion(ctx, index)
	if err != nil {
		return err
	}
	e, err := newEntryOut(answer.GetEntry())
	if err != nil {
		return err
	}
	o := proofOut{entryOut: e, Proof: answer.GetProof()}
	p, err := s.pinnedTrust()
	if err != nil {
		return err
	}
	if p != nil {
		proof, err := chain.ParseProof([]byte(answer.GetProof()))
		if err != nil {
			return ledgerFault("the proof can't be read: %w", err)
		}
		if proof.Index != index {
			return ledgerFault("the proof is for entry %d, not %d", proof.Index, index)
		}
		origin, _, _ := bytes.Cut(proof.Checkpoint, []byte("\n"))
		head, err := verifyWith(p.trust, string(origin), func(v note.Verifier) (chain.Checkpoint, error) {
			return proof.Verify(v, chain.LeafHash(answer.GetEntry().GetContent()))
		})
		if err != nil {
			return err
		}
		o.Verified, o.Size = true, fmt.Sprint(head.Size)
	}
	if a.json {
		return a.print(o, nil)
	}
	if _, err := fmt.Fprint(a.stdout, cleanText(o.Proof)); err != nil {
		return err
	}
	notes := a.printer(a.stderr)
	if o.Verified {
		notes.line("%s", notes.good(fmt.Sprintf("Entry %s (%s, %s) is in the ledger of %s entries; verified with the pinned key.", o.Index, o.Type, whenStamp(o.Time), o.Size)))
	} else {
		notes.line("%s", notes.warn("Not verified: no trust file is pinned (signet trust add FILE)."))
	}
	return nil
}

// proveCompleteness writes a document of completeness, and verifies it before it gets its name, if a trust file is pinned.
func (a *app) proveCompleteness(ctx context.Context, key, output string) error {
	if err := index.Key(key).Validate(); err != nil {
		return usagef("--key: %w; use event:, subject:, actor:, session: or type: and a value", err)
	}
	return a.online(ctx, func(ctx context.Context, client *signet.Client, s selected) error {
		trust, err := s.pinnedTrust()
		if err != nil {
			return err
		}
		o := completeOut{Key: key, Entries: []string{}}
		err = a.writeOut(output, func(w io.Writer) error {
			f, ok := w.(*os.File)
			if !ok {
				return usagef("--output names a file")
			}
			if err := client.ProveCompleteness(ctx, key, f); err != nil || trust == nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return err
			}
			open, err := openWith(trust.bytes)
			if err != nil {
				return err
			}
			if o, err = readComplete(bufio.NewReader(f), open); err == nil && o.Key != key {
				err = ledgerFault("the document is about %q, not about %q", o.Key, key)
			}
			return err
		})
		if err != nil {
			return err
		}
		return a.print(o, func(p *printer) {
			if trust == nil {
				p.line("Written to %s.", output)
				p.line("%s", p.warn("Not verified: no trust file is pinned (signet trust add FILE)."))
				return
			}
			p.line("%s", p.good(fmt.Sprintf("%d entries have the key %s, and no others below %s; written to %s, verified with the pinned key.", len(o.Entries), clean(o.Key), o.Size, output)))
		})
	})
}

func (a *app) proveConsistency(ctx context.Context, oldSize, newSize uint64, oldRoot string) error {
	var root chain.Hash
	if oldSize == 0 {
		return usagef("--old-size is at least 1")
	}
	if oldRoot != "" {
		var err error
		if root, err = chain.ParseHash(oldRoot); err != nil {
			return usagef("--old-root: %w", err)
		}
	}
	return a.online(ctx, func(ctx context.Context, client *signet.Client, s selected) error {
		answer, err := client.ProveConsistency(ctx, oldSize, newSize)
		if err != nil {
			return err
		}
		o := consistencyOut{OldSize: fmt.Sprint(oldSize), NewSize: fmt.Sprint(answer.GetNewSize()), Hashes: []string{}, Checkpoint: string(answer.GetCheckpoint())}
		hashes, err := hashesOf(answer.GetHashes())
		if err != nil {
			return err
		}
		for _, h := range hashes {
			o.Hashes = append(o.Hashes, h.String())
		}
		p, err := s.pinnedTrust()
		if err != nil {
			return err
		}
		if p != nil && oldRoot != "" && newSize == 0 {
			origin, _, _ := bytes.Cut(answer.GetCheckpoint(), []byte("\n"))
			head, err := verifyWith(p.trust, string(origin), func(v note.Verifier) (chain.Checkpoint, error) {
				return chain.OpenCheckpoint(answer.GetCheckpoint(), v)
			})
			if err != nil {
				return err
			}
			if err := chain.VerifyConsistency(hashes, oldSize, head.Size, root, head.Root); err != nil {
				return ledgerFault("the ledger of %d entries is not the beginning of that of %d: %w", oldSize, head.Size, err)
			}
			o.Verified = true
		}
		return a.print(o, func(p *printer) {
			for _, h := range o.Hashes {
				p.line("%s", h)
			}
			if o.Verified {
				p.line("%s", p.good(fmt.Sprintf("The ledger of %s entries is the beginning of that of %s; verified with the pinned key.", o.OldSize, o.NewSize)))
			} else {
				p.line("%s", p.warn("Not verified: that needs --old-root, no --new-size, and a pinned trust file."))
			}
		})
	})
}
