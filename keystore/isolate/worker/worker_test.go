package worker

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/pkcs11"
)

// Each setting of a token reaches the worker; the PIN does not go the same way.
func TestSettingsAreAll(t *testing.T) {
	of := reflect.TypeFor[settings]()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[pkcs11.Config]()) {
		if !f.IsExported() || f.Name == "PIN" {
			continue
		}
		s, ok := of.FieldByName(f.Name)
		if !ok || s.Type != f.Type {
			t.Errorf("%s is not among the settings", f.Name)
			continue
		}
		v := reflect.New(of).Elem()
		value := v.FieldByIndex(s.Index)
		switch value.Kind() {
		case reflect.String:
			value.SetString("x")
		case reflect.Bool:
			value.SetBool(true)
		default:
			value.SetInt(7)
		}
		b, err := json.Marshal(v.Interface())
		if err != nil {
			t.Fatal(err)
		}
		c, err := Config(isolate.Hello{Settings: b})
		if err != nil {
			t.Fatal(err)
		}
		if got := reflect.ValueOf(c).FieldByName(f.Name); !got.Equal(value) {
			t.Errorf("%s arrives as %v", f.Name, got)
		}
	}
	if _, err := Config(isolate.Hello{Settings: []byte(`{"Modul":"x"}`)}); err == nil {
		t.Error("an unknown setting is taken")
	}
}
