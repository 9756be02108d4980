// Package terminal asks people at a terminal. It is what both programs have of it.
package terminal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// Secret asks for a secret of at most limit bytes without showing it. The terminal is switched before the prompt is shown, so that nothing typed in
// answer to it is ever seen, and back whatever happens.
func Secret(ctx context.Context, in *os.File, out io.Writer, prompt string, limit int) ([]byte, error) {
	fd := int(in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(out, prompt)
	line, err := Interruptible(ctx, func() ([]byte, error) { return typed(in, limit) })
	err = errors.Join(err, term.Restore(fd, before))
	fmt.Fprintln(out)
	if err != nil {
		return nil, fmt.Errorf("nothing was entered: %w", err)
	}
	return line, nil
}

// typed reads a line from a terminal that passes every key on as it is (raw mode), with the keys that people correct themselves with.
func typed(r io.Reader, limit int) ([]byte, error) {
	const interrupt, end, backspace, clear, erase = 0x03, 0x04, 0x08, 0x15, 0x7f
	var line []byte
	key := make([]byte, 1)
	for {
		if n, err := r.Read(key); n == 0 && err != nil {
			return nil, err
		}
		switch key[0] {
		case '\r', '\n':
			return line, nil
		case interrupt:
			return nil, context.Canceled
		case end:
			if len(line) == 0 {
				return nil, io.ErrUnexpectedEOF
			}
		case backspace, erase:
			_, size := utf8.DecodeLastRune(line)
			line = line[:len(line)-size]
		case clear:
			line = line[:0]
		default:
			if line = append(line, key[0]); len(line) > limit {
				return nil, fmt.Errorf("longer than %d bytes", limit)
			}
		}
	}
}

// Interruptible reads from the terminal until the program is told to stop.
func Interruptible[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		v, err := read()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err() // the reader ends with the program
	}
}
