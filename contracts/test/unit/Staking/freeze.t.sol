// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingFreeze is Network {
    function testFuzz_freeze__never_more_than_is_slashable(uint96 a, uint96 b) public {
        _stake(owner, STAKE);
        vm.startPrank(address(disputes));
        uint96 first = staking.freeze(owner, a);
        uint96 second = staking.freeze(owner, b);
        assertLe(uint256(first) + second, STAKE);
        assertEq(staking.accountOf(owner).frozen, uint256(first) + second);
        assertEq(staking.openDisputes(owner), 2);
        staking.unfreeze(owner, first);
        assertEq(staking.accountOf(owner).frozen, second);
        staking.unfreeze(owner, second);
        vm.stopPrank();
        assertEq(staking.accountOf(owner).frozen, 0);
        assertEq(staking.accountOf(owner).frozenSince, 0);
    }

    function test_freeze__by_another__reverts() public {
        bytes memory refusal = abi.encodeWithSelector(IStaking.NotAllowed.selector, address(this));
        vm.expectRevert(refusal);
        staking.freeze(owner, 1);
        vm.expectRevert(refusal);
        staking.unfreeze(owner, 1);
        vm.expectRevert(refusal);
        staking.slash(owner, 1, owner, 0);
    }
}
