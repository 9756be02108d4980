package export

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	"github.com/signetd/signet/api/rfc3161"
	"github.com/signetd/signet/api/verify"
)

// maxKept is the size of the largest attachment that is looked into: checkpoints and time-stamps.
const maxKept = 64 << 10

// clockTolerance is how far the clocks of the ledger and of a time-stamping authority may be apart.
const clockTolerance = time.Minute

// attached is what is known of the attachments of a chunk.
type attached struct {
	named    map[chain.Hash]bool   // stands in the body of an entry
	owed     []owedTo              // must be there
	present  map[chain.Hash]bool   // is there
	wanted   map[chain.Hash]bool   // is to be looked into
	kept     map[chain.Hash][]byte // was
	brackets []bracketed
}

type owedTo struct {
	digest chain.Hash
	entry  uint64
}

// bracketed is an entry of the type checkpoint.timestamped, and what the ledger was at the size that it names.
type bracketed struct {
	entry uint64
	time  chain.Time
	body  manifest.CheckpointTimestamped
	then  past
}

// see takes what an entry says about its attachments.
func (a *attached) see(e chain.Entry) {
	eachDigest(e.Body, func(h chain.Hash) { a.named[h] = true })
	for _, h := range owed(e) {
		a.owed = append(a.owed, owedTo{h, e.Index})
	}
}

func (a *attached) bracket(b bracketed) {
	a.brackets = append(a.brackets, b)
	a.wanted[chain.Hash(b.body.Checkpoint)] = true
	for _, t := range b.body.Timestamps {
		a.wanted[chain.Hash(t)] = true
	}
}

// attachments reads the attachments of a chunk, and goes to the member after them.
func (v *verifier) attachments(a *attached, first uint64) error {
	a.present = map[chain.Hash]bool{}
	last := ""
	for {
		if err := v.archive.next(); err != nil {
			return err
		}
		name, ok := strings.CutPrefix(v.archive.name, attachmentPrefix(first))
		if !ok {
			break
		}
		digest, err := chain.ParseHash(name)
		if err != nil || name <= last {
			return malformed("the attachment %.120q is not named by a SHA-256 above that of the one before it", v.archive.name)
		}
		last = name
		if err := v.attachment(a, digest); err != nil {
			return err
		}
	}
	for _, o := range a.owed {
		if !a.present[o.digest] {
			v.report.fault(verify.Content, fmt.Sprintf("%s%s", attachmentPrefix(first), o.digest), "missing; entry %d names it", o.entry)
		}
	}
	return nil
}

// attachment reads one.
func (v *verifier) attachment(a *attached, digest chain.Hash) error {
	if v.archive.size > MaxAttachment {
		return malformed("the member %.120q has %d bytes; the limit is %d", v.archive.name, v.archive.size, MaxAttachment)
	}
	var kept bytes.Buffer
	h := sha256.New()
	w := io.Writer(h)
	if a.wanted[digest] && v.archive.size <= maxKept {
		w = io.MultiWriter(h, &kept)
	}
	if _, err := io.Copy(w, &v.archive); err != nil {
		return err
	}
	v.report.Attachments++
	switch got := chain.Hash(h.Sum(nil)); {
	case !a.named[digest]:
		v.report.fault(verify.Content, v.archive.name, "extra: no entry of the chunk names it")
	case got != digest:
		v.report.fault(verify.Content, v.archive.name, "changed: its SHA-256 is %s", got)
		a.present[digest] = true // as it was named; that it is not what it should be has been said
	default:
		a.present[digest] = true
		if a.wanted[digest] {
			a.kept[digest] = kept.Bytes()
		}
	}
	return nil
}

// bracket judges a time-stamped checkpoint. Attachments that are missing or changed have been named before.
func (v *verifier) bracket(a *attached, b bracketed) {
	where := fmt.Sprintf("entry %d", b.entry)
	if note := a.kept[chain.Hash(b.body.Checkpoint)]; note != nil {
		c, err := v.anchors.OwnCheckpoint(note)
		switch {
		case err != nil:
			v.report.fault(verify.Ledger, where, "the time-stamped checkpoint: %v", err)
		case c.Size != b.body.Size || c.Root != b.body.Root:
			v.report.fault(verify.Ledger, where, "the time-stamped checkpoint is that of the size %d with the root %s, and the entry names %d and %s",
				c.Size, c.Root, b.body.Size, b.body.Root)
		}
	}
	switch {
	case b.then.back:
		v.report.fault(verify.Ledger, where, "it names a checkpoint of %d entries, fewer than the one before it", b.body.Size)
	case b.then.outside:
		v.report.note("entry %d time-stamps a checkpoint of %d entries, which lies before this export", b.entry, b.body.Size)
	case b.then.root != b.body.Root:
		v.report.fault(verify.Ledger, where, "it names the root %s for the size %d, and the entries give %s: the ledger was forked", b.body.Root, b.body.Size, b.then.root)
	}
	held, unpinned := 0, []error{}
	for i, t := range b.body.Timestamps {
		der := a.kept[chain.Hash(t)]
		if der == nil {
			continue
		}
		stamp, err := v.anchors.Timestamp(der, b.body.Checkpoint[:])
		if err == nil {
			err = b.fits(stamp)
		}
		switch {
		case errors.Is(err, rfc3161.ErrUntrusted):
			unpinned = append(unpinned, err)
		case err != nil:
			v.report.fault(verify.TimeNotProven, fmt.Sprintf("%s, time-stamp %d", where, i), "%v", err)
		default:
			held++
			v.report.bracket(Bracket{Entry: b.entry, Size: b.body.Size, Time: chain.NewTime(stamp.Time), Accuracy: stamp.Accuracy.String(), Authority: stamp.Authority})
		}
	}
	switch {
	case held > 0 && len(unpinned) > 0:
		v.report.note("entry %d: %d of its time-stamps are of authorities that the trust file does not pin", b.entry, len(unpinned))
	case held == 0 && len(unpinned) > 0:
		v.report.fault(verify.TimeNotProven, where, "none of its time-stamps holds: %v", unpinned[0])
	}
}

// fits holds a time-stamp against the times of the entries.
func (b *bracketed) fits(s verify.Stamp) error {
	slack := clockTolerance + s.Accuracy
	if b.time.Time().Before(s.Time.Add(-slack)) {
		return fmt.Errorf("it is of %s, more than %v after the entry that records it, %s", chain.NewTime(s.Time), clockTolerance, b.time)
	}
	if !b.then.back && !b.then.outside && b.then.time.Time().After(s.Time.Add(slack)) {
		return fmt.Errorf("it is of %s, and the entry %d, which it covers, claims to be of %s", chain.NewTime(s.Time), b.body.Size-1, b.then.time)
	}
	return nil
}
