package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/notify"
)

// CheckPrivate holds the secrets beside the ledger against their commitments: for [ledger.Check].
func CheckPrivate(r *ledger.Read) error {
	var wrong []error
	for from := ""; ; {
		next, err := CheckSomePrivate(r, from)
		if wrong = append(wrong, err); next == "" {
			return errors.Join(wrong...)
		}
		from = next
	}
}

// privateRows is how many rows one step of [CheckSomePrivate] looks at.
const privateRows = 512

// CheckSomePrivate is [CheckPrivate] in steps, for a ledger that goes on meanwhile: it begins at from, empty at first, and returns where
// the next step begins, empty after the last one.
func CheckSomePrivate(r *ledger.Read, from string) (next string, err error) {
	stage, key, _ := strings.Cut(from, "/")
	c := privateCheck{r: r, view: r.View(projectionName)}
	switch stage {
	case "", "signers":
		if next = c.signers(key); next == "" {
			return "verifiers/", errors.Join(c.wrong...)
		}
		next = "signers/" + next
	case "verifiers":
		if next = c.verifiers(key); next == "" {
			return "sources/", errors.Join(c.wrong...)
		}
		next = "verifiers/" + next
	case "sources":
		if next = c.sources(key); next == "" {
			return "contacts/", errors.Join(c.wrong...)
		}
		next = "sources/" + next
	case "contacts":
		next, err := notify.CheckSomePrivate(r, key)
		if next != "" {
			next = "contacts/" + next
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrTampered, err)
		}
		return next, err
	default:
		return "", fmt.Errorf("identity: no private rows %.80q", from)
	}
	return next, errors.Join(c.wrong...)
}

type privateCheck struct {
	r     *ledger.Read
	view  *ledger.State
	wrong []error
}

func (c *privateCheck) report(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Errorf("%w: "+format, append([]any{ErrTampered}, args...)...))
}

// signers looks for the verifier that each signer's entry has committed to.
func (c *privateCheck) signers(from string) (next string) {
	if from == "" {
		c.names()
	}
	n := 0
	c.view.Ascend(bucketSigners, []byte(from), func(k, v []byte) bool {
		if n++; n > privateRows {
			next = string(k)
			return false
		}
		var row signerRow
		if err := decode(bucketSigners, v, &row); err != nil {
			c.wrong = append(c.wrong, err)
			return true
		}
		stored := c.r.GetPrivate(privateVerifiers, []byte(row.ID))
		switch {
		case row.Credential == "" && stored != nil:
			c.report("%s has no password, but a verifier", row.ID)
		case row.Credential != "" && hexSum(stored) != row.Credential:
			c.report("the password verifier of %s is not that of entry %d", row.ID, max(row.Enrolled, row.CredentialEntry))
		}
		seed := c.r.GetPrivate(privateTOTP, []byte(row.ID))
		switch {
		case row.TOTP == "" && seed != nil:
			c.report("%s has no one-time passwords, but a seed", row.ID)
		case row.TOTP != "" && hexSum(seed) != row.TOTP:
			c.report("the seed of the one-time passwords of %s is not that of entry %d", row.ID, row.TOTPEntry)
		}
		return true
	})
	return next
}

// names looks at the key that blinds user names.
func (c *privateCheck) names() {
	var names credentialRow
	if ok, err := get(c.view, bucketMeta, []byte("names"), &names); err != nil {
		c.wrong = append(c.wrong, err)
	} else if stored := c.r.GetPrivate(privateKeys, []byte(namesKey)); ok && hexSum(stored) != names.Commitment {
		c.report("the key that blinds user names is not that of entry %d", names.Index)
	}
}

// verifiers looks for verifiers that belong to nobody.
func (c *privateCheck) verifiers(from string) (next string) {
	n := 0
	c.r.AscendPrivate(privateVerifiers, []byte(from), func(id, _ []byte) bool {
		if n++; n > privateRows {
			next = string(id)
			return false
		}
		if _, ok, err := getSigner(c.view, string(id)); err != nil || !ok {
			c.report("a password verifier of %.80q, whom no entry names", id)
		}
		return true
	})
	if from == "" { // they are few, and only those of nobody are looked for
		c.r.EachPrivate(privateTOTP, func(id, _ []byte) bool {
			if _, ok, err := getSigner(c.view, string(id)); err != nil || !ok {
				c.report("a seed of one-time passwords of %.80q, whom no entry names", id)
			}
			return true
		})
	}
	return next
}

// sources looks at addresses and devices. One that was erased is missing, which is right.
func (c *privateCheck) sources(from string) (next string) {
	n := 0
	c.r.AscendPrivate(privateSources, []byte(from), func(commitment, value []byte) bool {
		if n++; n > privateRows {
			next = string(commitment)
			return false
		}
		if c.view.Get(bucketErased, commitment) != nil {
			c.report("the source %.80q was erased, and is there", commitment)
		}
		if hexSum(value) != string(commitment) {
			c.report("the source %.80q is not what its commitment says", commitment)
		}
		return true
	})
	return next
}
