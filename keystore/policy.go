package keystore

import (
	"fmt"
	"slices"
	"strings"
)

// Attributes that the policy needs, by what they must be.
var (
	policyTrue = []string{
		"CKA_ALWAYS_SENSITIVE",  // was never readable
		"CKA_LOCAL",             // was made in the device, not brought into it
		"CKA_NEVER_EXTRACTABLE", // could never be wrapped out
		"CKA_PRIVATE",           // needs the PIN
		"CKA_SENSITIVE",         // cannot be read
		"CKA_SIGN",              // signs
		"CKA_TOKEN",             // stays when the session ends
	}
	policyFalse = []string{
		"CKA_DECRYPT",
		"CKA_DERIVE",
		"CKA_EXTRACTABLE", // cannot be wrapped out
		"CKA_UNWRAP",
	}
	// Some devices do not know these for every kind of key; unknown is as good as false.
	policyNotTrue = []string{
		"CKA_SIGN_RECOVER",
	}
)

// PolicyAttributes returns the names of the attributes that [CheckPolicy] looks at, sorted. A [Token] reads these back.
func PolicyAttributes() []string {
	all := slices.Concat(policyTrue, policyFalse, policyNotTrue)
	slices.Sort(all)
	return all
}

// CheckPolicy reports whether attributes, as read back from a token, are those of a key that was made in the device,
// cannot leave it, and can only sign. An attribute that the token would not tell counts as wrong. The error wraps
// [ErrPolicy] and names each attribute that is wrong.
func CheckPolicy(attributes map[string]string) error {
	var wrong []string
	check := func(names []string, want string) {
		for _, name := range names {
			if got, known := attributes[name]; !known {
				wrong = append(wrong, name+" is unknown, must be "+want)
			} else if got != want {
				wrong = append(wrong, name+" is "+got+", must be "+want)
			}
		}
	}
	check(policyTrue, "true")
	check(policyFalse, "false")
	for _, name := range policyNotTrue {
		if got, known := attributes[name]; known && got != "false" {
			wrong = append(wrong, name+" is "+got+", must be false")
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return fmt.Errorf("%w: %s", ErrPolicy, strings.Join(wrong, "; "))
}

// Drift compares a key's attributes with those that were recorded when it was made. Each one that is another now, or that
// the device told then and does not tell any more, is a drift: none may rightfully change, not even to the better. One that
// was not known then is none, as a new release of a device's software may tell more; what it says is held against the policy.
// The error wraps [ErrDrift] and names each attribute.
func Drift(recorded, now map[string]string) error {
	var changed []string
	for name, was := range recorded {
		if is, known := now[name]; !known {
			changed = append(changed, name+" was "+was+", is not told any more")
		} else if is != was {
			changed = append(changed, name+" was "+was+", is "+is)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	slices.Sort(changed)
	return fmt.Errorf("%w: %s", ErrDrift, strings.Join(changed, "; "))
}
