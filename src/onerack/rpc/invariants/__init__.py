"""What must always be true of RPC's cores, by name; run after every simulated step.

The idea: two kinds. A *basic* property is read off one core at one moment. A *delta* property is about what a core has
said and kept so far: a witness sits beside the core, remembers every message in and out, knows nothing of how the core
came to its answers, and compares. A core that is wrong in the same way in its tables and in its words would have to be
wrong twice.

The rule: each property has the name of what it promises, and a broken one is reported by that name. This room alone may
look at what the cores keep to themselves.

Source: Birrell & Nelson 1984, section 3.2; Lee et al., RIFL, SOSP 2015, section 4; notes on each property.
"""

from onerack.rpc.invariants.client import CLIENT, ClientWitness, check_client
from onerack.rpc.invariants.server import SERVER, ServerWitness, check_server

__all__ = ["CLIENT", "SERVER", "ClientWitness", "ServerWitness", "check_client", "check_server"]
