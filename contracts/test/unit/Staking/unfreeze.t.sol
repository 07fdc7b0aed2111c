// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract StakingUnfreeze is Network {
    function testFuzz_unfreeze__each_freeze__returns_what_it_took(uint96 a, uint96 b) public {
        _stake(owner, STAKE);
        vm.startPrank(address(disputes));
        uint96 first = staking.freeze(owner, a);
        uint96 second = staking.freeze(owner, b);
        staking.unfreeze(owner, first);
        assertEq(staking.accountOf(owner).frozen, second);
        staking.unfreeze(owner, second);
        vm.stopPrank();
        assertEq(staking.accountOf(owner).frozen, 0);
        assertEq(staking.accountOf(owner).frozenSince, 0);
        assertEq(staking.openDisputes(owner), 0);
    }

    function test_unfreeze__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.NotAllowed.selector, address(this)));
        staking.unfreeze(owner, 1);
    }
}
