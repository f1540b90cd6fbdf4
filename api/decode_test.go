// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/hyperiondb/hyperion-vault/proxy/vault"
)

// target has a field of each type.
type target struct {
	value []byte
	text  *string
	n     *int64
	list  *[]string
	yes   *bool
	rules *[]vault.Permission
}

func (g *target) fields() map[string]any {
	return map[string]any{"value": &g.value, "text": &g.text, "n": &g.n, "list": &g.list, "yes": &g.yes, "rules": &g.rules}
}

func TestDecode(t *testing.T) {
	for in, want := range map[string]string{
		`{}`: "", " \t\r\n{ } \n": "",
		`{"value":"s3cret"}`:                                "s3cret",
		`{"value" : "a\"\\\/\b\f\n\r\t"}`:                   "a\"\\/\b\f\n\r\t",
		`{"value":"\u00e9\u0001\ud83d\ude00"}`:              "\u00e9\x01\U0001F600",
		`{"value":"é😀"}`:                                    "é😀",
		`{"v\u0061lue":"x"}`:                                "x",
		`{"value":""}`:                                      "",
		`{"value":null,"text":null,"n":null,"list":null}`:   "",
		`{"n":-12,"list":["a","b"],"text":"t","value":"v"}`: "v",
		`{"list":[ ],"n":0,"value":"v"}`:                    "v",
	} {
		var g target
		if err := decodeObject([]byte(in), g.fields()); err != nil || string(g.value) != want {
			t.Errorf("%s: got %q, %v, want %q", in, g.value, err, want)
		}
	}
	var g target
	if err := decodeObject([]byte(`{"n":-12,"list":["a","b"],"text":"t"}`), g.fields()); err != nil {
		t.Fatal(err)
	}
	if err := decodeObject([]byte(`{"yes":true,"rules":[{"action":"read","path":"a/*"}, { "path" : "b" , "action" : "*" }]}`), g.fields()); err != nil {
		t.Fatal(err)
	}
	if !*g.yes || len(*g.rules) != 2 || (*g.rules)[0] != (vault.Permission{Action: "read", Path: "a/*"}) || (*g.rules)[1] != (vault.Permission{Action: "*", Path: "b"}) {
		t.Errorf("got %+v %+v", *g.yes, *g.rules)
	}
	if *g.n != -12 || *g.text != "t" || strings.Join(*g.list, " ") != "a b" || g.value != nil {
		t.Errorf("got %+v", g)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "null", "[]", `"value"`, `{`, `{"value"`, `{"value":`, `{"value":"s3cret`, `{"value":"s3cret"`, `{"value":"s3cret"}}`,
		`{"value":"s3cret"} {}`, `{"value":"s3cret",}`, `{,"value":"s3cret"}`, `{"value" "s3cret"}`, `{value:"s3cret"}`, `{'value':'s3cret'}`,
		`{"value":"s3cret","value":"s3cret"}`, `{"value":null,"v\u0061lue":"s3cret"}`, `{"Value":"s3cret"}`, `{"s3cret":1}`,
		`{"value":12}`, `{"value":["s3cret"]}`, `{"value":{"s3cret":1}}`, `{"value":true}`, `{"value":nul}`, `{"text":1}`,
		`{"n":"1"}`, `{"n":1.0}`, `{"n":1e3}`, `{"n":01}`, `{"n":-}`, `{"n":- 1}`, `{"n":+1}`, `{"n":1234567890123456789}`, `{"n":}`,
		`{"list":["a",]}`, `{"list":["a"`, `{"list":[1]}`, `{"list":"a"}`, `{"list":[["a"]]}`, `{"list":["a" "b"]}`,
		`{"value":"\x"}`, `{"value":"\u12"}`, `{"value":"\u12g4"}`, `{"value":"\ud800"}`, `{"value":"\ud800\u0041"}`, `{"value":"\udc00"}`, `{"value":"\ud800x"}`, `{"value":"\`,
		`{"yes":1}`, `{"yes":"true"}`, `{"yes":True}`, `{"yes":truefalse}`,
		`{"rules":{}}`, `{"rules":["s3cret"]}`, `{"rules":[{"action":"s3cret"}]}`, `{"rules":[{"action":"read","path":"s3cret","more":1}]}`, `{"rules":[{"action":"read","path":["s3cret"]}]}`,
		`{"rules":[{"action":"read","path":"a","path":"s3cret"}]}`, `{"rules":[{"action":"read","path":"a"},]}`, `{"rules":[{"action":"read","path":"a"}`, `{"rules":[{"action":null,"path":"s3cret"}]}`,
		"{\"value\":\"a\nb\"}", "{\"value\":\"\xff\"}", "\ufeff{}", "{\"value\":\"a\x00\"}",
		`{"list":[` + strings.Repeat(`"",`, maxList) + `""]}`,
	} {
		var g target
		err := decodeObject([]byte(in), g.fields())
		if err == nil {
			t.Errorf("%q was taken", in)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the error quotes it: %v", in, err)
		}
	}
}

// FuzzDecode compares with encoding/json: what is taken here says the same there,
// and what is written is read back.
func FuzzDecode(f *testing.F) {
	for _, in := range []string{`{}`, `{"value":"a\n\u00e9\ud83d\ude00","n":-1,"list":["a"],"text":null}`, `{"value":"\ud800"}`, `{"n":1e9}`} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		sent := bytes.Clone(in)
		var g target
		err := decodeObject(in, g.fields())
		if !bytes.Equal(in, sent) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		var want struct {
			Value *string   `json:"value"`
			Text  *string   `json:"text"`
			N     *int64    `json:"n"`
			List  *[]string `json:"list"`
			Yes   *bool     `json:"yes"`
			Rules *[]struct {
				Action, Path *string
			} `json:"rules"`
		}
		d := json.NewDecoder(bytes.NewReader(in))
		d.DisallowUnknownFields()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%q was taken: %v", in, err)
		}
		got, err := json.Marshal([]any{g.text, g.n, g.list, g.value == nil, string(g.value)})
		if err != nil {
			t.Fatal(err)
		}
		value := ""
		if want.Value != nil {
			value = *want.Value
		}
		other, err := json.Marshal([]any{want.Text, want.N, want.List, want.Value == nil, value})
		if err != nil || !bytes.Equal(got, other) {
			t.Fatalf("%q: got %s, want %s", in, got, other)
		}
		written := append(vault.AppendJSON([]byte(`{"value":`), g.value), '}')
		var again target
		if err := decodeObject(written, again.fields()); err != nil || !bytes.Equal(again.value, g.value) {
			t.Fatalf("%q was written as %s and read as %q, %v", g.value, written, again.value, err)
		}
	})
}
