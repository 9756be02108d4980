package signet

import signetv1 "github.com/signetd/signet/api/signet/v1"

// What the tests against a real server hold against answers that were tampered with.
var (
	CheckPreparation = checkPreparation
	CheckRecord      = checkRecord
	CheckEntry       = checkEntry
	RootsAt          = rootsAt
)

// CheckSignature proves a signature as Sign does.
func (c *Client) CheckSignature(s *signetv1.Signature, p *Prepared) (*Signed, error) {
	return c.checkSignature(s, 0, p)
}

// CheckSeal proves a seal as Seal does.
func (c *Client) CheckSeal(s *signetv1.Signature, act Act) (*Signed, error) {
	return c.checkSeal(s, act)
}
