// Package witness is both ends of C2SP tlog-witness 1.0.0: the ledger's, which has its checkpoints cosigned ([Client]), and the
// witness's, which cosigns what is consistent with all that it has cosigned before ([Witness]).
//
// # The problem
//
// A ledger that is hash-chained and signed can still be shown to different people in different versions, or be put back to an older
// state, by whoever holds its key. A witness is somebody else's small service that remembers, for each ledger, the size and root
// of the newest checkpoint that it has seen, and signs a larger one only with a proof that it continues that one. Whoever asks for
// cosignatures of a quorum of witnesses (a C2SP tlog-policy, see [chain.Policy]) is shown what they were shown.
//
// # The protocol
//
//	POST <prefix>/add-checkpoint
//
//	old 41
//	<base64 of each hash of the RFC 6962 consistency proof from size 41, 63 at the most>
//
//	<signed checkpoint>
//
// Answers: 200 with the witness's signature lines; 404 for a ledger that it does not know; 403 without a valid signature of the
// ledger's key; 409 where its newest size is another than "old", with that size and a newline as the body (text/x.tlog.size); 422 where
// the proof or root does not fit; 400 for everything malformed. The newest cosigned checkpoint of a ledger is read at
// <prefix>/<SHA-256 of the origin, hex>/checkpoint.
//
// # What the client promises
//
// It delays no append and no signature: who makes a signature waits for the quorum for a set time at the most
// ([ledger.Ledger.Witnessed]) and gets a proof without it then. Each witness is asked about one checkpoint at a time, all about the same,
// as cosignatures of different checkpoints make no quorum. The next one has its turn when the quorum is there, or all have
// answered or failed. One that fails is asked again, later and later.
package witness

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/signetd/signet/api/chain"
)

// Paths and media types of the protocol.
const (
	addCheckpoint = "/add-checkpoint"
	sizeType      = "text/x.tlog.size"
	textType      = "text/plain; charset=utf-8"
)

// maxRequest bounds what is submitted: the old size, 63 hashes, and a checkpoint.
const maxRequest = len("old \n") + 20 + 45*chain.MaxProof + 1 + chain.MaxNote

// errMalformed is wrapped by all errors about the form of what is submitted.
var errMalformed = errors.New("malformed request")

// request is what is submitted to a witness.
type request struct {
	old        uint64
	proof      []chain.Hash
	checkpoint []byte
}

func (r request) encode() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.old)
	for _, h := range r.proof {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(b, '\n')
	return append(b, r.checkpoint...)
}

// parseRequest reads what was submitted. The checkpoint in it is not looked at.
func parseRequest(b []byte) (request, error) {
	head, checkpoint, ok := bytes.Cut(b, []byte("\n\n"))
	if len(b) > maxRequest || !ok {
		return request{}, fmt.Errorf("%w: want the old size, up to %d hashes, an empty line and a checkpoint", errMalformed, chain.MaxProof)
	}
	lines := strings.Split(string(head), "\n")
	r := request{checkpoint: checkpoint}
	var err error
	if r.old, err = parseOld(lines[0]); err != nil {
		return request{}, err
	}
	if len(lines)-1 > chain.MaxProof {
		return request{}, fmt.Errorf("%w: %d hashes; at most %d", errMalformed, len(lines)-1, chain.MaxProof)
	}
	for _, line := range lines[1:] {
		raw, err := base64.StdEncoding.Strict().DecodeString(line)
		if err != nil || len(line) != 44 || len(raw) != len(chain.Hash{}) {
			return request{}, fmt.Errorf("%w: a line of the proof is not 32 bytes in base64", errMalformed)
		}
		r.proof = append(r.proof, chain.Hash(raw))
	}
	return r, nil
}

func parseOld(line string) (uint64, error) {
	number, ok := strings.CutPrefix(line, "old ")
	n, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || strconv.FormatUint(n, 10) != number {
		return 0, fmt.Errorf("%w: the first line is not \"old\" and a decimal", errMalformed)
	}
	return n, nil
}

// parseSize reads the body of a 409.
func parseSize(b []byte) (uint64, error) {
	number, ok := strings.CutSuffix(string(b), "\n")
	n, err := strconv.ParseUint(number, 10, 63)
	if !ok || err != nil || strconv.FormatUint(n, 10) != number {
		return 0, fmt.Errorf("it answers 409 with %.40q instead of its size", b)
	}
	return n, nil
}
