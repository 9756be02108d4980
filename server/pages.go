package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

const (
	defaultPage = 50
	largestPage = 200
)

func pageSize(asked int32) int {
	switch {
	case asked <= 0:
		return defaultPage
	case asked > largestPage:
		return largestPage
	}
	return int(asked)
}

// pages makes page tokens that say nothing and cannot be made up: a position and its HMAC for one list. They hold
// until the server stops.
type pages struct{ key [32]byte }

func newPages() *pages {
	p := new(pages)
	rand.Read(p.key[:])
	return p
}

func (p *pages) mac(list string, position []byte) []byte {
	h := hmac.New(sha256.New, p.key[:])
	h.Write(position)
	h.Write([]byte(list))
	return h.Sum(nil)[:16]
}

func (p *pages) token(list string, position uint64) string {
	b := binary.BigEndian.AppendUint64(nil, position)
	return base64.RawURLEncoding.EncodeToString(append(b, p.mac(list, b)...))
}

// read returns the position of a token; 0 for the empty one.
func (p *pages) read(list, token string) (uint64, error) {
	if token == "" {
		return 0, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != 8+16 || !hmac.Equal(b[8:], p.mac(list, b[:8])) {
		return 0, errPageToken
	}
	return binary.BigEndian.Uint64(b[:8]), nil
}
