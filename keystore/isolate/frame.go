package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/signetd/signet/keystore"
)

// The parts of a frame. The two ends are of one build, so none of this needs to be compatible with another version, but for
// the place of the version itself.
const (
	protocolName    = "signet-hsm-worker"
	protocolVersion = 1

	lengthSize = 4
	headSize   = 1 + 8 + 8
	maxFrame   = keystore.MaxMessage + 4096
	maxText    = 4096
)

type kind byte

// From the supervisor.
const (
	setup kind = iota + 1
	givePIN
	sign
	generate
	find
	destroy
	forget
	knownAnswers
	secretKey
	cancel
	ping
	bye
)

// From the worker.
const (
	hello kind = iota + 65
	ready
	wantPIN
	loggedIn
	signed
	done
	failed
	pong
)

// frame is one that was read. Its body is good until the next is read.
type frame struct {
	kind    kind
	request uint64
	extra   uint64
	body    []byte
}

var errProtocol = errors.New("what came over the socket is not the protocol")

// appendFrame appends a frame whose body is in parts.
func appendFrame(b []byte, k kind, request, extra uint64, parts ...[]byte) []byte {
	length := headSize
	for _, p := range parts {
		length += len(p)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	b = append(b, byte(k))
	b = binary.BigEndian.AppendUint64(b, request)
	b = binary.BigEndian.AppendUint64(b, extra)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// parseFrame reads what follows the length.
func parseFrame(b []byte) (frame, error) {
	if len(b) < headSize {
		return frame{}, fmt.Errorf("%w: a frame of %d bytes", errProtocol, len(b))
	}
	return frame{
		kind: kind(b[0]), request: binary.BigEndian.Uint64(b[1:]), extra: binary.BigEndian.Uint64(b[9:]), body: b[headSize:],
	}, nil
}

// algorithms gives each a number in frames. The list is the same at both ends.
var algorithms = keystore.Algorithms()

func algorithmNumber(a keystore.Algorithm) (byte, error) {
	for i, known := range algorithms {
		if known == a {
			return byte(i), nil
		}
	}
	return 0, fmt.Errorf("%w: unknown algorithm %q", keystore.ErrInvalid, string(a))
}

// appendSign appends a request to sign: the algorithm, the length of the id, the id, the input.
func appendSign(b []byte, request, left uint64, algorithm byte, id keystore.ID, input []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(headSize+2+len(id)+len(input)))
	b = append(b, byte(sign))
	b = binary.BigEndian.AppendUint64(b, request)
	b = binary.BigEndian.AppendUint64(b, left)
	b = append(b, algorithm, byte(len(id)))
	b = append(b, id...)
	return append(b, input...)
}

// parseSign reads the body of a request to sign. The id and input are parts of it.
func parseSign(body []byte) (algorithm keystore.Algorithm, id, input []byte, err error) {
	if len(body) < 2 || int(body[0]) >= len(algorithms) || len(body) < 2+int(body[1]) {
		return "", nil, nil, fmt.Errorf("%w: a request to sign of %d bytes", errProtocol, len(body))
	}
	n := 2 + int(body[1])
	return algorithms[body[0]], body[2:n], body[n:], nil
}

// appendHello appends the body of a hello: the protocol's name, its version, the build.
func appendHello(b []byte, build string) []byte {
	b = append(b, protocolName...)
	b = binary.BigEndian.AppendUint16(b, protocolVersion)
	return append(b, build...)
}

// A mismatchError says that the other end is another program, or another build of it.
type mismatchError struct{ text string }

func (e *mismatchError) Error() string {
	return "the worker process and the service do not belong together: " + e.text + "; restart the service"
}

func checkHello(body []byte, build string) error {
	if len(body) < len(protocolName)+2 || string(body[:len(protocolName)]) != protocolName {
		return &mismatchError{"the other end is no " + protocolName}
	}
	body = body[len(protocolName):]
	if v := binary.BigEndian.Uint16(body); v != protocolVersion {
		return &mismatchError{fmt.Sprintf("one speaks version %d of the protocol, the other version %d", v, protocolVersion)}
	}
	if string(body[2:]) != build {
		return &mismatchError{"they are of different builds"}
	}
	return nil
}
