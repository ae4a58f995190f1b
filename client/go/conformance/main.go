// Command conformance drives the library for the conformance suite: it reads commands as JSON lines from its standard input, and writes
// what comes of them as JSON lines to its standard output. client/conformance/README.md says which there are.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
)

// Bytes of one command; the suite's are far shorter.
const commandBytesMax = 64 * 1024 * 1024

func main() {
	log.SetFlags(0)
	driver := newDriver(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, commandBytesMax)
	for lines.Scan() && !driver.closed {
		var command command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			log.Fatalf("%.200q is no command: %v", lines.Text(), err)
		}
		driver.do(&command)
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
	driver.close()
}
