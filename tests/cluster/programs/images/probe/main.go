// Probe opens a TCP connection to each address in its arguments and prints the results. It fails if it could not
// reach one of them. With the argument "wait", it waits for SIGTERM instead.
package main

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "wait" {
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM)
		<-ended
		return
	}
	failed := false
	for _, address := range os.Args[1:] {
		connection, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			failed = true
			fmt.Println("not reached:", err)
			continue
		}
		connection.Close()
		fmt.Println("reached", address)
	}
	if failed {
		os.Exit(1)
	}
}
