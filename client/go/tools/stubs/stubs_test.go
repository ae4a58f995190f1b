package stubs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/permitd/permitd/client/go/tools/stubs"
)

const kept = "../../internal/wire"

// Goal: the stubs that are kept are those of the contract as it stands, and nothing else is among them.
func TestStubsAreInStep(t *testing.T) {
	made, err := stubs.Generate(t.Context(), "../../../../proto")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range made {
		have, err := os.ReadFile(filepath.Join(kept, name))
		if err != nil || string(have) != text {
			t.Errorf("%s is not what proto/ says (%v); run `go run ./stubs/write` in client/go/tools", name, err)
		}
	}
	entries, err := os.ReadDir(kept)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if _, ok := made[entry.Name()]; !ok {
			t.Errorf("%s comes from nothing in proto/; remove it", entry.Name())
		}
	}
}
