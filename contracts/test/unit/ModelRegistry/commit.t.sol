// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract ModelRegistryCommit is Network {
    function test_commit__copied__neither_serves_the_copier_nor_restarts_the_clock() public {
        IModelRegistry.Registration memory r = _registration(500);
        bytes32 commitment = keccak256(abi.encode(r, creator));
        vm.prank(creator);
        models.commit(commitment);
        skip(1);
        models.commit(commitment);
        assertEq(models.committedAt(commitment), block.timestamp - 1);
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NoCommitment.selector, keccak256(abi.encode(r, address(this)))));
        models.register(r);
        vm.prank(creator);
        models.register(r);
    }
}
