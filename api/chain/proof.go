package chain

import (
	"encoding/base64"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// ProofHeader is the first line of a proof: its format and version.
const ProofHeader = "c2sp.org/tlog-proof@v1"

// maxProofText bounds the text of a proof.
const maxProofText = len(ProofHeader) + 32 + 45*(MaxProof+1) + MaxNote

// Proof shows offline that an entry stands in a ledger at its index: a C2SP tlog-proof.
type Proof struct {
	Index      uint64
	Hashes     []Hash // the audit path of RFC 6962, the leaf's sibling first
	Checkpoint []byte // a signed checkpoint
}

// Encode returns the text of the proof.
func (p Proof) Encode() []byte {
	b := append([]byte(ProofHeader), "\nindex "...)
	b = strconv.AppendUint(b, p.Index, 10)
	b = append(b, '\n')
	for _, h := range p.Hashes {
		b = base64.StdEncoding.AppendEncode(b, h[:])
		b = append(b, '\n')
	}
	b = append(b, '\n')
	return append(b, p.Checkpoint...)
}

// ParseProof reads the text of a proof. The checkpoint in it is read by [Proof.Verify].
func ParseProof(b []byte) (Proof, error) {
	var p Proof
	if len(b) > maxProofText {
		return p, malformed("proof: %d bytes; the limit is %d", len(b), maxProofText)
	}
	rest, ok := strings.CutPrefix(string(b), ProofHeader+"\n")
	if !ok {
		return p, malformed("proof: the first line is not %q", ProofHeader)
	}
	line, rest, ok := strings.Cut(rest, "\n")
	number, named := strings.CutPrefix(line, "index ")
	if !ok || !named {
		return p, malformed("proof: the second line is not \"index\" and a number (an \"extra\" line is refused)")
	}
	index, err := parseDecimal(number)
	if err != nil {
		return p, err
	}
	if index >= MaxSize {
		return p, malformed("proof: index %d; the largest is %d", index, uint64(MaxSize-1))
	}
	p.Index, p.Hashes = index, []Hash{}
	for {
		if line, rest, ok = strings.Cut(rest, "\n"); !ok {
			return Proof{}, malformed("proof: truncated")
		}
		if line == "" {
			break
		}
		h, err := parseBase64Hash(line)
		if err != nil {
			return Proof{}, err
		}
		if len(p.Hashes) == MaxProof {
			return Proof{}, malformed("proof: more than %d hashes", MaxProof)
		}
		p.Hashes = append(p.Hashes, h)
	}
	if rest == "" || len(rest) > MaxNote {
		return Proof{}, malformed("proof: a checkpoint of %d bytes; want 1 to %d", len(rest), MaxNote)
	}
	p.Checkpoint = []byte(rest)
	return p, nil
}

// Verify checks that the checkpoint is signed by v's key and that leaf (see [LeafHash]) stands in its tree at the index.
// It returns the checkpoint.
func (p Proof) Verify(v note.Verifier, leaf Hash) (Checkpoint, error) {
	c, err := OpenCheckpoint(p.Checkpoint, v)
	if err != nil {
		return Checkpoint{}, err
	}
	if err := VerifyInclusion(p.Hashes, c.Size, p.Index, c.Root, leaf); err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}
