// Command write puts the stubs of the wire where the library has them. Run it in client/go/tools after a change of proto/:
//
//	go run ./stubs/write
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"

	"github.com/permitd/permitd/client/go/tools/stubs"
)

func main() {
	log.SetFlags(0)
	made, err := stubs.Generate(context.Background(), "../../../proto")
	if err != nil {
		log.Fatal(err)
	}
	for name, text := range made {
		path := filepath.Join("../internal/wire", name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			log.Fatal(err)
		}
		log.Print("wrote ", path)
	}
}
