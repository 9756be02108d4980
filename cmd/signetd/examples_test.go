package main

import (
	"testing"

	"github.com/signetd/signet/cmd/internal/examples"
)

// What the help shows can be typed.
func TestEveryExampleCanBeParsed(t *testing.T) {
	if found, err := examples.Check(command); err != nil || found < 25 {
		t.Errorf("%d examples: %v", found, err)
	}
}
