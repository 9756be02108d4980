package signet

import (
	"bytes"
	"crypto/sha256"
	"encoding/json/v2"
	"fmt"
	"strings"

	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
)

// decisionID is the decision as a statement names it.
func decisionID(d signetv1.Decision) string {
	return strings.ToLower(strings.TrimPrefix(d.String(), "DECISION_"))
}

// checkPreparation proves that a preparation is what was asked for. The meaning of a withdrawal is the server's to choose: intent has none then.
func checkPreparation(p *signetv1.Preparation, record *Record, intent Intent) (*Prepared, error) {
	statement, err := manifest.ParseStatement(p.GetStatement())
	if err != nil {
		return nil, contradiction("the prepared statement: %v", err)
	}
	out := &Prepared{
		Name: p.GetName(), Record: record, Statement: statement, Canonical: p.GetStatement(), Digest: sha256.Sum256(p.GetStatement()),
		Rendering: manifest.Render(statement), Challenge: sha256.Sum256(manifest.PAE(p.GetStatement())),
		Requires: statement.Predicate.Requires, Expires: statement.Predicate.Expires.Time(),
	}
	said := statement.Predicate
	switch {
	case out.Rendering != p.GetRendering():
		return nil, contradiction("the server shows another text than the statement says")
	case !bytes.Equal(p.GetChallenge(), out.Challenge[:]):
		return nil, contradiction("the challenge is not that of the statement")
	case said.Decision != decisionID(intent.Decision):
		return nil, contradiction("asked to %s, the statement says %q", decisionID(intent.Decision), said.Decision)
	case intent.Meaning != "" && said.Meaning.ID != intent.Meaning:
		return nil, contradiction("asked for the meaning %q, the statement says %q", intent.Meaning, said.Meaning.ID)
	case said.Reason != intent.Reason:
		return nil, contradiction("the statement gives another reason than the signer's")
	case p.GetName() != "preparations/"+said.Preparation:
		return nil, contradiction("the statement belongs to the preparation %s, not to %s", said.Preparation, p.GetName())
	case p.GetRequires() != string(said.Requires):
		return nil, contradiction("the server asks for %q, the statement for %q", p.GetRequires(), said.Requires)
	case manifest.NewTime(p.GetExpireTime().AsTime()) != said.Expires:
		return nil, contradiction("the preparation lapses %s, the statement says %s", manifest.NewTime(p.GetExpireTime().AsTime()), said.Expires)
	}
	if err := statement.About(record.Content); err != nil {
		return nil, contradiction("%v", err)
	}
	return out, nil
}

// checkSignature proves that a released signature is one over the statement that was prepared.
func (c *Client) checkSignature(s *signetv1.Signature, state signetv1.RecordState, p *Prepared) (*Signed, error) {
	if !bytes.Equal(s.GetStatement(), p.Canonical) {
		return nil, contradiction("the signature is over another statement than the one that was shown")
	}
	signed, err := c.prove(s)
	if err != nil {
		return nil, err
	}
	if kind := signed.Signature.Authorization.Kind; !kind.Covers(p.Requires) {
		return nil, contradiction("the signature was authorized by %s, the statement demands %s", kind, p.Requires)
	}
	signed.RecordState = state
	return signed, nil
}

// checkSeal proves that a seal is what was asked for.
func (c *Client) checkSeal(s *signetv1.Signature, act Act) (*Signed, error) {
	signed, err := c.prove(s)
	if err != nil {
		return nil, err
	}
	said := signed.Signature.Statement.Predicate
	same := said.Decision == manifest.Seal && said.Meaning.ID == act.Meaning && said.Reason == act.Reason && "records/"+said.Event == act.Record &&
		len(said.Inputs) == len(act.Inputs)
	for i := 0; same && i < len(act.Inputs); i++ {
		var value string
		err := json.Unmarshal(said.Inputs[i].Value, &value)
		same = err == nil && said.Inputs[i].Name == act.Inputs[i].GetName() && value == act.Inputs[i].GetValue()
	}
	if !same {
		return nil, contradiction("the seal is not about what was to be sealed")
	}
	return signed, nil
}

// signatureOf is the element of the manifest that a message carries, and the index that the message says.
func signatureOf(s *signetv1.Signature) (manifest.Signature, error) {
	statement, err := manifest.ParseStatement(s.GetStatement())
	if err != nil {
		return manifest.Signature{}, err
	}
	authorization, err := manifest.ParseAuthorization(s.GetAuthorization())
	if err != nil {
		return manifest.Signature{}, err
	}
	if len(s.GetCertificates()) == 0 || len(s.GetTimestamps()) == 0 {
		return manifest.Signature{}, fmt.Errorf("no certificate or no time-stamp")
	}
	return manifest.Signature{
		Authorization: authorization,
		Certificates:  s.GetCertificates(),
		Ledger:        manifest.LedgerProof{Consistency: s.GetLedger().GetConsistency(), Entry: s.GetLedger().GetEntry(), Proof: s.GetLedger().GetProof()},
		Signature:     manifest.SignatureValue{Algorithm: s.GetAlgorithm(), KeyID: s.GetKeyId(), Value: s.GetValue()},
		Statement:     statement,
		Timestamps:    s.GetTimestamps(),
	}, nil
}
