package identity

import (
	"encoding/json/v2"
	"fmt"
)

// ReadSource returns the address and device that an entry's actor has committed to; the zero source where it has none, or where they were
// erased. One that is not what was committed to is [ErrTampered].
func ReadSource(r interface {
	GetPrivate(bucket string, key []byte) []byte
}, commitment string) (Source, error) {
	if commitment == "" {
		return Source{}, nil
	}
	private := r.GetPrivate(privateSources, []byte(commitment))
	if private == nil {
		return Source{}, nil
	}
	if hexSum(private) != commitment || len(private) < 32 {
		return Source{}, fmt.Errorf("%w: the source %.80q", ErrTampered, commitment)
	}
	var text struct {
		Address string `json:"address"`
		Device  string `json:"device"`
	}
	if err := json.Unmarshal(private[32:], &text); err != nil {
		return Source{}, fmt.Errorf("%w: the source %.80q: %w", ErrTampered, commitment, err)
	}
	return Source{Address: text.Address, Device: text.Device}, nil
}
