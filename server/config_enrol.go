package server

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/signetd/signet/server/internal/identity"
)

// FourEyesOff is the value of identity.fourEyes with which nothing takes two administrators.
const FourEyesOff = string(identity.FourEyesOff)

// validateEnrolment checks what belongs to enrolment.
func (c IdentityConfig) validateEnrolment(environment string, bad func(key, format string, args ...any) error) error {
	switch identity.FourEyes(c.FourEyes) {
	case identity.FourEyesAuto:
	case identity.FourEyesOff:
		if environment == Production {
			return bad("identity.fourEyes", "off is refused in production; use auto")
		}
	default:
		return bad("identity.fourEyes", "%q; use auto or off", c.FourEyes)
	}
	if d := time.Duration(c.ProposalLifetime); d <= 0 || d > 90*24*time.Hour {
		return bad("identity.proposalLifetime", "%v; use a duration above zero, and 2160h (90 days) at the most", d)
	}
	r := c.LetterReference
	if utf8.RuneCountInString(r) > 200 || !utf8.ValidString(r) || strings.TrimSpace(r) != r || strings.ContainsFunc(r, func(c rune) bool { return !unicode.IsGraphic(c) }) {
		return bad("identity.letterReference", "%.40q; use one line of 200 characters at the most", r)
	}
	return nil
}

// stampAccountability time-stamps a signer's first signature, where anything may be signed.
func (s *Server) stampAccountability(ctx context.Context, signature []byte) ([]byte, time.Time, error) {
	if err := s.scrubFound(); err != nil {
		return nil, time.Time{}, err
	}
	return s.tsa.Load().Stamp(ctx, signature)
}
