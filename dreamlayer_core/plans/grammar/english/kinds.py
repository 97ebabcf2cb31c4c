"""Which nouns are kinds of another: "a convertible ... the car" is one thing. Our own lists."""

from __future__ import annotations

from ..tables import listed

__all__ = ["KINDS"]

KINDS = {
    "car": listed("convertible coupe sedan limousine taxi cab jeep suv van"),
    "truck": listed("lorry pickup"),
    "boat": listed("rowboat canoe kayak gondola sailboat dinghy raft speedboat ferry yacht trawler"),
    "ship": listed("schooner galleon frigate liner steamer yacht"),
    "plane": listed("airplane aeroplane jet biplane glider"),
    "bike": listed("bicycle motorbike motorcycle"),
    "dog": listed("""
        puppy pup hound poodle labrador terrier bulldog retriever corgi husky dalmatian beagle dachshund chihuahua shepherd pug
        spaniel greyhound whippet collie rottweiler doberman mastiff setter schnauzer pekingese malamute samoyed akita
    """),
    "cat": listed("kitten tabby calico tomcat siamese"),
    "horse": listed("mare stallion pony foal colt filly steed"),
    "bird": listed("""
        parrot parakeet macaw cockatoo canary owl eagle hawk falcon vulture crow raven magpie jay pigeon dove sparrow finch
        robin wren swallow swan goose duck gull seagull pelican stork heron crane toucan hummingbird woodpecker
    """),
    "sofa": listed("couch settee loveseat"),
    "couch": listed("sofa settee loveseat"),
    "tree": listed("oak pine fir spruce birch maple willow palm cypress cedar poplar elm beech"),
}
