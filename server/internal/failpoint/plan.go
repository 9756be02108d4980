package failpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Variable is the environment variable that says what happens where.
const Variable = "SIGNET_FAILPOINT"

// ErrInjected is what Err returns where it was told to fail.
var ErrInjected = errors.New("failpoint: failed as it was told to")

// anywhere stands for all names.
const anywhere = "*"

// plan is what a process was told.
type plan struct {
	mu    sync.Mutex
	rules []*rule
}

type rule struct {
	name string
	left int // it acts when this becomes 0
	fail bool
}

// parse reads "name[:n][=kill|error]", several separated by commas.
func parse(s string) (*plan, error) {
	p := &plan{}
	if s == "" {
		return p, nil
	}
	for one := range strings.SplitSeq(s, ",") {
		what, action, acts := strings.Cut(one, "=")
		name, number, counted := strings.Cut(what, ":")
		r := &rule{name: name, left: 1, fail: action == "error"}
		if counted {
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 {
				return nil, fmt.Errorf("failpoint: %s: %q is not a number of times from 1 on", Variable, number)
			}
			r.left = n
		}
		if acts && action != "kill" && action != "error" {
			return nil, fmt.Errorf("failpoint: %s: %q is neither kill nor error", Variable, action)
		}
		if _, ok := Points()[name]; !ok && name != anywhere {
			return nil, fmt.Errorf("failpoint: %s: no place is named %q", Variable, name)
		}
		p.rules = append(p.rules, r)
	}
	return p, nil
}

// hit counts a visit for the rules of one kind, and says whether one of them acts now.
func (p *plan) hit(name string, fail bool) bool {
	if len(p.rules) == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	acts := false
	for _, r := range p.rules {
		if r.fail != fail || r.name != name && r.name != anywhere {
			continue
		}
		if r.left--; r.left == 0 {
			acts = true
		}
	}
	return acts
}
