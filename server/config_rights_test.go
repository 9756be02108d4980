package server

import (
	"errors"
	"testing"
	"time"
)

func TestRightsConfig(t *testing.T) {
	for every, good := range map[time.Duration]bool{
		0: false, time.Hour: false, 24 * time.Hour: true, 90 * 24 * time.Hour: true, 366 * 24 * time.Hour: true, 367 * 24 * time.Hour: false, -time.Hour: false,
	} {
		c := DefaultConfig()
		c.Environment = Demo
		c.Rights.ReviewEvery = Duration(every)
		if err := c.Validate(); (err == nil) != good || err != nil && !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", every, err)
		}
	}
}
