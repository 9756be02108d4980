package signet

import (
	"errors"
	"fmt"
	"iter"
)

// ErrContradiction is wrapped by errors about an answer that cannot be right: it does not fit what was asked for, or does not verify. The server
// is broken or hostile, or somebody is in between. Nothing that hangs on such an answer should be used.
var ErrContradiction = errors.New("the server's answer contradicts itself or the question")

func contradiction(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrContradiction}, args...)...)
}

// pages turns a call that gives one page into an iterator over all elements. It ends after the first error.
func pages[T any](fetch func(token string) (elements []T, next string, err error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		seen := map[string]bool{}
		for token := ""; ; {
			elements, next, err := fetch(token)
			if err != nil {
				yield(zero, err)
				return
			}
			for _, e := range elements {
				if !yield(e, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			if seen[next] {
				yield(zero, contradiction("the page token %.40q came twice: the list would never end", next))
				return
			}
			seen[next] = true
			token = next
		}
	}
}
