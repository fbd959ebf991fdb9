"""Keep flagd's messages in a descriptor pool of their own.

The official Python provider brings another copy of the same messages. In one pool the second copy to be imported
would be refused as a duplicate; with a pool of ours, a process may hold both, as a test with a server inside does.
A field of type Struct then has a class of its own: fill it from a mapping or a Struct, or with update(); CopyFrom()
of a `google.protobuf.struct_pb2.Struct` is refused.
"""

from google.protobuf import descriptor_pool, struct_pb2

POOL = descriptor_pool.DescriptorPool()
POOL.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
